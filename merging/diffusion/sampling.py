"""The sampler's loop, from noise to pictures: the steps of diffusers' pipeline, one by one.

A loop of our own, since a composition may predict the noise from several passes of the model.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from itertools import count

import torch
from PIL import Image
from torch import Tensor

from merging.diffusion.compose.composer import Composer, Moment
from merging.diffusion.compose.scene import Scene
from merging.diffusion.preview import clean_estimate
from merging.runtime.progress import Progress, Stop, part


@torch.no_grad()
def draw(
    scene: Scene,
    composer: Composer,
    progress: Progress,
    stop: Stop,
    watching: AbstractContextManager[None],
    on_estimate: Callable[[Tensor], None] | None = None,
) -> list[Image.Image]:
    """The scene's pictures, with its LoRAs composed by the composer.

    ``on_estimate`` gets the latents that they seem to come to, after every step.
    ``watching`` is entered when the LoRAs are in the model, so that its hooks see their effect.
    Noise is drawn on the CPU picture by picture. ``stop`` is checked before every layer of the
    model; raises Cancelled once it turns true.
    """
    with scene.base.stopping_at_layers(stop), composer.acting(), watching:
        latents = _last_round(scene, composer, progress, on_estimate)
    return _decode(scene, latents, scene.generators())


def _last_round(
    scene: Scene,
    composer: Composer,
    progress: Progress,
    on_estimate: Callable[[Tensor], None] | None,
) -> Tensor:
    """The latents of the pictures, after as many rounds from the same noise as it takes."""
    for number in count():
        share = part(progress, number / composer.rounds, (number + 1) / composer.rounds)
        latents = composer.finish(_denoise(scene, composer, scene.generators(), share, on_estimate))
        if latents is not None:
            return latents
    raise AssertionError("a count has no end")


def _denoise(
    scene: Scene,
    composer: Composer,
    generators: list[torch.Generator],
    progress: Progress,
    on_estimate: Callable[[Tensor], None] | None,
) -> Tensor:
    """From noise to latents without noise: (pictures, channels, height, width)."""
    base, scheduler = scene.base, scene.base.pipeline.scheduler
    scheduler.set_timesteps(scene.steps, device=base.device)
    options = base.pipeline.prepare_extra_step_kwargs(generators, 0.0)
    latents = composer.begin(_noise(scene, generators) * scheduler.init_noise_sigma)
    for step, time in enumerate(scheduler.timesteps):
        moment = Moment(step, time)
        latents = composer.move(latents, moment)
        scaled = scheduler.scale_model_input(latents, time)
        noise = composer.noise(scaled, moment)
        latents = scheduler.step(noise, time, latents, **options, return_dict=False)[0]
        composer.after_step()
        if on_estimate:
            on_estimate(clean_estimate(scheduler, scaled, noise, time))
        progress((step + 1) / scene.steps, f"step {step + 1} of {scene.steps}")
    return latents


def _noise(scene: Scene, generators: list[torch.Generator]) -> Tensor:
    base = scene.base
    shape = (1, base.pipeline.unet.config.in_channels, *scene.latent)
    noise = [torch.randn(shape, generator=it, dtype=base.dtype) for it in generators]
    return torch.cat(noise).to(base.device)


def _decode(scene: Scene, latents: Tensor, generators: list[torch.Generator]) -> list[Image.Image]:
    """Pictures from latents, by the base's own decoder and, if it has one, its safety checker."""
    base, pipeline = scene.base, scene.base.pipeline
    scaled = latents / pipeline.vae.config.scaling_factor
    pixels = pipeline.vae.decode(scaled, return_dict=False, generator=generators)[0]
    pixels, unsafe = pipeline.run_safety_checker(pixels, base.device, base.dtype)
    shown = [not flag for flag in unsafe] if unsafe else [True] * len(pixels)
    return pipeline.image_processor.postprocess(pixels, output_type="pil", do_denormalize=shown)

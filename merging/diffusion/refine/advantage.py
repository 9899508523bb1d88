"""Where a LoRA's concept is in a picture: where the LoRA denoises it better than the base does.

A finished picture x₀ is noised and denoised by both models, under the same prompt:
    x_t = √ᾱ_t x₀ + √(1 − ᾱ_t) n
    a(p) = mean over t and n of  ‖ε₀(x_t) − n‖² − ‖ε_i(x_t) − n‖²  around p
ε₀ is the base's prediction and ε_i that of LoRA i. In pictures of its concept, a is hundreds of
times larger than in the base's pictures for the same words. Diffusion Classifier (arXiv:2303.16203)
compares prompts by such errors; here two models are compared, place by place.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from merging.diffusion.base import Base
from merging.diffusion.calibration_samples import POSITIONS_PER_BATCH
from merging.diffusion.refine.concept import NO_CHANGE, ModelChange
from merging.diffusion.refine.sampling import noise_scheduler, text_states
from merging.runtime.seeds import seed_for

TIMES, DRAWS = (300, 500, 700), 3  # t, of 1000; noises n for each
NEIGHBOURHOOD = 5 / 16  # side of "around p", as a share of the latent's


def advantage(
    base: Base,
    latents: Tensor,
    prompts: Sequence[str],
    change: ModelChange,
    *,
    times: Sequence[int] = TIMES,
    draws: int = DRAWS,
    seed: int = 0,
) -> Tensor:
    """a of finished ``latents`` (n, channels, height, width): (n, height, width), float32, CPU.

    The noises depend on the seed alone, so that pictures do not depend on those beside them.
    """
    plain, changed = (
        denoising_error(base, latents, prompts, model, times=times, draws=draws, seed=seed)
        for model in (NO_CHANGE, change)
    )
    return around(plain - changed)


@torch.no_grad()
def denoising_error(
    base: Base,
    latents: Tensor,
    prompts: Sequence[str],
    change: ModelChange = NO_CHANGE,
    *,
    times: Sequence[int] = TIMES,
    draws: int = DRAWS,
    seed: int = 0,
) -> Tensor:
    """Mean over t and n of ‖ε(x_t) − n‖² per channel: (n, height, width), float32, CPU."""
    noises = [
        (time, _shared_noise(latents, seed_for(seed, "advantage", str(time), str(draw))))
        for time in times
        for draw in range(draws)
    ]
    size = max(1, POSITIONS_PER_BATCH // latents[0, 0].numel())
    with change.applied(base):
        errors = [
            _mean_error(base, latents[start : start + size], prompts[start : start + size], noises)
            for start in range(0, len(prompts), size)
        ]
    return torch.cat(errors)


def around(values: Tensor) -> Tensor:
    """Mean of the neighbourhood of every place of (…, height, width), cut at the edges."""
    side = window(values, NEIGHBOURHOOD)
    maps = values.flatten(0, -3)[:, None]
    means = F.avg_pool2d(maps, side, 1, side // 2, count_include_pad=False)
    return means.reshape(values.shape)


def window(values: Tensor, share: float) -> int:
    """The odd number of places that is ``share`` of the shorter side of (…, height, width)."""
    return 2 * int(share * min(values.shape[-2:]) / 2) + 1


def _shared_noise(latents: Tensor, seed: int) -> Tensor:
    """n (1, channels, height, width) for all pictures."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn((1, *latents.shape[1:]), generator=generator).to(latents)


def _mean_error(
    base: Base, latents: Tensor, prompts: Sequence[str], noises: Sequence[tuple[int, Tensor]]
) -> Tensor:
    """One batch, under the model as it is now."""
    scheduler, states = noise_scheduler(base), text_states(base, prompts)
    total = latents.new_zeros(len(latents), *latents.shape[2:], dtype=torch.float32)
    for time, noise in noises:
        at = torch.tensor(time, device=base.device)
        noised = scheduler.add_noise(latents, noise.expand_as(latents), at[None])
        predicted = base.pipeline.unet(noised, at, encoder_hidden_states=states).sample
        total += (predicted.float() - noise.float()).square().mean(dim=1)
    return (total / len(noises)).cpu()

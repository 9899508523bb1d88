"""Pictures from a base and adapters: the plain pipeline with the adapters' changes added exactly.

Adapters are summed at their strengths by our own hooks, never through a file loader, whose
scaling differs from file to file.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from merging.adapter import Adapter, Shift
from merging.base_models import base_model
from merging.diffusion.attention_maps import AttentionWatch, marked
from merging.diffusion.base import Base, latent_side, latent_size
from merging.diffusion.calibration_samples import POSITIONS_PER_BATCH
from merging.diffusion.gate import (
    RegionFinder,
    concept_tokens,
    constant_gate,
    gated,
    silenced,
    word_gate,
)
from merging.diffusion.schedulers import scheduled
from merging.diffusion.textual_inversion import taught
from merging.diffusion.tokens import text_ids
from merging.embedding import Embedding
from merging.errors import MergeError
from merging.io.png import Origin, UsedAdapter
from merging.linalg.delta import Delta, scaled, stacked, total
from merging.options import Compose, Sampler
from merging.runtime.memory import out_of_memory_told
from merging.runtime.progress import Progress, Stop, check, never, part, silent

MAX_STEPS = 200
MAX_GUIDANCE = 30.0


def render(
    base: Base,
    prompts: Sequence[str],
    seeds: Sequence[int],
    *,
    adapters: Sequence[tuple[Adapter, float]] = (),
    embeddings: Sequence[Embedding] = (),
    steps: int = 25,
    guidance: float | None = None,
    compose: Compose = "sum",
    negative: str = "",
    sampler: Sampler = "DDIM",
    size: str = "",
    phrases: Sequence[str] = (),
    progress: Progress = silent,
    stop: Stop = never,
) -> list[Image.Image]:
    """One picture per (prompt, seed) pair; ``image.info`` has the texts that its PNG will bear.

    ``guidance`` None is what the base draws best with. ``size`` is WIDTHxHEIGHT in pixels, "" for
    the base's own. ``phrases`` asks for ``image.info["maps"]`` too: where the picture was made by
    looking at each phrase, phrase → (height, width) of the latent
    (`merging.diffusion.attention_maps`).

    compose "sum" adds the adapters up; "gated" lets each act on its own words and region only
    (merging/diffusion/gate.py), by the trigger phrases of the adapters; one that a prompt does not
    name is silent in it. Prompts may say the words of ``embeddings``, and of the adapters' own.

    Noise is drawn on the CPU picture by picture, so a seed means the same on every device.
    Raises MergeError for values out of range, Cancelled once ``stop`` turns true.
    """
    guidance = _guidance_in_range(base, steps, guidance)
    pairs = list(zip(prompts, seeds, strict=True))
    latent = latent_size(base, size)
    common = Origin(
        prompt="",
        negative=negative,
        steps=steps,
        guidance=guidance,
        sampler=sampler,
        compose=compose,
        base=base.name,
        size=size.strip(),
        side=latent_side(base) * base.pipeline.vae_scale_factor,
        adapters=tuple(
            UsedAdapter(it.name, weight, it.trigger, it.sha256) for it, weight in adapters
        ),
    )
    at_once = max(1, POSITIONS_PER_BATCH // (2 * latent[0] * latent[1]))
    images: list[Image.Image] = []
    draw = _draw_gated if compose == "gated" else _draw_summed
    told = out_of_memory_told(f"Drawing on {base.device}", "close other programs that use it")
    brought = [each for adapter, _ in adapters for each in adapter.embeddings]
    with told, taught(base, [*brought, *embeddings]), scheduled(base, sampler):
        text_ids(base, [*prompts, negative])
        for start in range(0, len(pairs), at_once):
            check(stop)
            own = pairs[start : start + at_once]
            ahead = part(progress, start / len(pairs), (start + len(own)) / len(pairs))
            images += draw(_Batch(base, own, common, latent, phrases, ahead, stop), adapters)
    for image, (prompt, seed) in zip(images, pairs, strict=True):
        image.info.update(replace(common, prompt=prompt, seed=seed).texts())
    return images


def _guidance_in_range(base: Base, steps: int, asked: float | None) -> float:
    """The guidance that holds; MergeError where it or the steps are out of range."""
    guidance = base_model(base.name).guidance if asked is None else asked
    if not 1 <= steps <= MAX_STEPS or not 0 <= guidance <= MAX_GUIDANCE:
        raise MergeError(
            f"Steps must be 1 to {MAX_STEPS} and guidance 0 to {MAX_GUIDANCE:g}, "
            f"not {steps} and {guidance:g}."
        )
    return guidance


def summed(base: Base, adapters: Sequence[tuple[Adapter, float]]) -> dict[str, Delta]:
    """Layer → Σ strength · Δ. MergeError where the base lacks a layer."""
    merged: dict[str, Delta] = {}
    for adapter, strength in adapters:
        for name, layer in adapter.layers.items():
            if name not in base.layers:
                raise MergeError(
                    f"{adapter.name}: layer {name} does not exist in the base {base.name}; "
                    "choose the base that it was trained for."
                )
            delta = scaled(layer, strength)
            merged[name] = stacked([merged[name], delta]) if name in merged else delta
    return merged


def shifted(base: Base, adapters: Sequence[tuple[Adapter, float]]) -> dict[str, Shift]:
    """Module → Σ strength · what is added to its vectors. MergeError where the base lacks one."""
    for adapter, _ in adapters:
        base.check_shifts(adapter.shifts)
    return total(
        {module: own.scaled(strength) for module, own in adapter.shifts.items()}
        for adapter, strength in adapters
    )


@dataclass(frozen=True)
class _Batch:
    """Pictures that go through the pipeline together."""

    base: Base
    pairs: Sequence[tuple[str, int]]  # (prompt, seed)
    common: Origin  # what is the same for all of them
    latent: tuple[int, int]  # height, width
    phrases: Sequence[str]  # whose maps are wanted
    progress: Progress
    stop: Stop

    @property
    def texts(self) -> tuple[list[str], list[str]]:
        """The prompts, and the negative one as often, for the other half."""
        return [prompt for prompt, _ in self.pairs], [self.common.negative] * len(self.pairs)

    def states(self, texts: Sequence[str]) -> Tensor:
        """What the text encoder makes of the texts: (texts, tokens, width)."""
        return self.base.pipeline.text_encoder(text_ids(self.base, texts))[0]

    def draw(
        self, cond: Tensor, uncond: Tensor, after_step: Callable[[], None] | None = None
    ) -> list[Image.Image]:
        """Denoise and decode; a stop between steps skips the rest of them."""
        steps = self.common.steps

        def on_step(pipeline: Any, step: int, _timestep: int, values: dict) -> dict:
            pipeline._interrupt = self.stop()
            self.progress((step + 1) / steps, f"step {step + 1} of {steps}")
            if after_step:
                after_step()
            return values

        marks = marked(self.base, self.texts[0], self.phrases)
        watch = AttentionWatch(self.base, marks, self.latent)
        height, width = (side * self.base.pipeline.vae_scale_factor for side in self.latent)
        with watch.watching() if self.phrases else nullcontext():
            images = self.base.pipeline(
                prompt_embeds=cond,
                negative_prompt_embeds=uncond,
                height=height,
                width=width,
                num_inference_steps=steps,
                guidance_scale=self.common.guidance,
                generator=[torch.Generator().manual_seed(seed) for _, seed in self.pairs],
                callback_on_step_end=on_step,
            ).images
        check(self.stop)
        if self.phrases:
            for image, maps in zip(images, watch.maps(), strict=True):
                image.info["maps"] = dict(zip(self.phrases, maps, strict=True))
        return images


def _draw_summed(batch: _Batch, adapters: Sequence[tuple[Adapter, float]]) -> list[Image.Image]:
    """The plain pipeline with the adapters' sum added to its weights."""
    base = batch.base
    shifts = shifted(base, adapters)
    with base.changed(summed(base, adapters)), base.changed(shifts), torch.no_grad():
        cond, uncond = (batch.states(texts) for texts in batch.texts)
        return batch.draw(cond, uncond)


def _draw_gated(batch: _Batch, adapters: Sequence[tuple[Adapter, float]]) -> list[Image.Image]:
    """Every adapter on its own words and region; the regions follow the attention of each step."""
    base = batch.base
    phrases = [adapter.trigger for adapter, _ in adapters]
    if not phrases or not all(phrases):
        raise MergeError("Composing by regions needs adapters with a trigger phrase each.")
    deltas = [summed(base, [pair]) for pair in adapters]
    shifts = [shifted(base, [pair]) for pair in adapters]
    spoken = marked(base, batch.texts[0], phrases).amax(dim=1)
    named, blank = (word_gate(base, texts, phrases) * spoken[:, None] for texts in batch.texts)
    guided = batch.common.guidance > 1  # then the pipeline stacks [unconditional, conditional]
    streams = 2 if guided else 1
    ones = torch.ones(streams * len(batch.pairs), len(adapters))
    gate = constant_gate(ones, base.pipeline.tokenizer.model_max_length, batch.latent)
    gate = silenced(gate, spoken.repeat(streams, 1))
    finder = RegionFinder(base, gate, concept_tokens(base, batch.texts[0], phrases))
    with gated(base, deltas, gate), gated(base, shifts, gate), torch.no_grad():
        prompts, empty = batch.texts
        gate.words = named
        cond = batch.states(prompts)
        gate.words = blank
        uncond = batch.states(empty)
        gate.words = torch.cat([blank, named][-streams:])
        with finder.watching():
            return batch.draw(cond, uncond, after_step=finder.settle)

"""Pictures from a base and LoRAs: diffusers' pipeline with the LoRAs' changes added by hooks.

File loaders are not used: the scaling that they apply differs from file to file.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from merging.adapter import Adapter, VectorDelta
from merging.base_models import base_model
from merging.diffusion.attention_maps import AttentionRecorder, phrase_masks
from merging.diffusion.base import Base, latent_side, latent_size
from merging.diffusion.calibration_samples import POSITIONS_PER_BATCH
from merging.diffusion.gate import (
    RegionFinder,
    concept_tokens,
    constant_gate,
    gated,
    silence_unnamed,
    token_gate,
)
from merging.diffusion.schedulers import using_sampler
from merging.diffusion.textual_inversion import using_embeddings
from merging.diffusion.tokens import text_ids
from merging.embedding import Embedding
from merging.errors import MergeError
from merging.io.png import Origin, UsedAdapter
from merging.linalg.delta import Delta, scaled_delta, sum_deltas, sum_vector_deltas
from merging.options import Compose, Sampler
from merging.runtime.memory import explain_out_of_memory
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
    """One picture per (prompt, seed) pair; ``image.info`` has the texts for its PNG.

    ``guidance`` None is the base's best value. ``size`` is WIDTHxHEIGHT in pixels, "" for the
    native size of the base. With ``phrases``, ``image.info["maps"]`` has the attention to every
    phrase: phrase → (height, width) of the latent (`merging.diffusion.attention_maps`).

    compose "sum" adds the adapters up; "gated" lets every adapter act on its trigger phrase and
    region only (merging/diffusion/gate.py), and switches it off in prompts without the phrase.
    Prompts may use the words of ``embeddings`` and of the adapters' embeddings.

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
    batch_size = max(1, POSITIONS_PER_BATCH // (2 * latent[0] * latent[1]))
    images: list[Image.Image] = []
    draw = _draw_gated if compose == "gated" else _draw_summed
    memory = explain_out_of_memory(f"Drawing on {base.device}", "close other programs that use it")
    bundled = [embedding for adapter, _ in adapters for embedding in adapter.embeddings]
    with memory, using_embeddings(base, [*bundled, *embeddings]), using_sampler(base, sampler):
        text_ids(base, [*prompts, negative])  # MergeError for long prompts, before any is drawn
        for start in range(0, len(pairs), batch_size):
            check(stop)
            chunk = pairs[start : start + batch_size]
            share = part(progress, start / len(pairs), (start + len(chunk)) / len(pairs))
            images += draw(_Batch(base, chunk, common, latent, phrases, share, stop), adapters)
    for image, (prompt, seed) in zip(images, pairs, strict=True):
        image.info.update(replace(common, prompt=prompt, seed=seed).texts())
    return images


def _guidance_in_range(base: Base, steps: int, asked: float | None) -> float:
    """The guidance, by default the base's; MergeError if it or the steps are out of range."""
    guidance = base_model(base.name).guidance if asked is None else asked
    if not 1 <= steps <= MAX_STEPS or not 0 <= guidance <= MAX_GUIDANCE:
        raise MergeError(
            f"Steps must be 1 to {MAX_STEPS} and guidance 0 to {MAX_GUIDANCE:g}, "
            f"not {steps} and {guidance:g}."
        )
    return guidance


def summed_deltas(base: Base, adapters: Sequence[tuple[Adapter, float]]) -> dict[str, Delta]:
    """Layer → Σ strength · Δ. MergeError where the base lacks a layer."""
    merged: dict[str, Delta] = {}
    for adapter, strength in adapters:
        for name, layer in adapter.layers.items():
            if name not in base.layers:
                raise MergeError(
                    f"{adapter.name}: layer {name} does not exist in the base {base.name}; "
                    "choose the base that it was trained for."
                )
            delta = scaled_delta(layer, strength)
            merged[name] = sum_deltas([merged[name], delta]) if name in merged else delta
    return merged


def summed_shifts(base: Base, adapters: Sequence[tuple[Adapter, float]]) -> dict[str, VectorDelta]:
    """Module → Σ strength · change of its vectors. MergeError where the base lacks one."""
    for adapter, _ in adapters:
        base.check_shifts(adapter.shifts)
    return sum_vector_deltas(
        {module: shift.scaled(strength) for module, shift in adapter.shifts.items()}
        for adapter, strength in adapters
    )


@dataclass(frozen=True)
class _Batch:
    """Pictures that go through the pipeline together."""

    base: Base
    pairs: Sequence[tuple[str, int]]  # (prompt, seed)
    common: Origin  # settings of all pictures
    latent: tuple[int, int]  # height, width
    phrases: Sequence[str]  # to record attention maps of
    progress: Progress
    stop: Stop

    @property
    def texts(self) -> tuple[list[str], list[str]]:
        """The prompts, and as many copies of the negative prompt."""
        return [prompt for prompt, _ in self.pairs], [self.common.negative] * len(self.pairs)

    def states(self, texts: Sequence[str]) -> Tensor:
        """Output of the text encoder: (texts, tokens, width)."""
        return self.base.pipeline.text_encoder(text_ids(self.base, texts))[0]

    def draw(
        self, cond: Tensor, uncond: Tensor, after_step: Callable[[], None] | None = None
    ) -> list[Image.Image]:
        """Denoise and decode; a stop is checked between steps."""
        steps = self.common.steps

        def on_step(pipeline: Any, step: int, _timestep: int, values: dict) -> dict:
            pipeline._interrupt = self.stop()
            self.progress((step + 1) / steps, f"step {step + 1} of {steps}")
            if after_step:
                after_step()
            return values

        marks = phrase_masks(self.base, self.texts[0], self.phrases)
        watch = AttentionRecorder(self.base, marks, self.latent)
        height, width = (side * self.base.pipeline.vae_scale_factor for side in self.latent)
        with watch.recording() if self.phrases else nullcontext():
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
    """Draw with the sum of the adapters' changes."""
    base = batch.base
    shifts = summed_shifts(base, adapters)
    with base.changed(summed_deltas(base, adapters)), base.changed(shifts), torch.no_grad():
        cond, uncond = (batch.states(texts) for texts in batch.texts)
        return batch.draw(cond, uncond)


def _draw_gated(batch: _Batch, adapters: Sequence[tuple[Adapter, float]]) -> list[Image.Image]:
    """Draw with every adapter on its phrase and region; regions are updated after every step."""
    base = batch.base
    phrases = [adapter.trigger for adapter, _ in adapters]
    if not phrases or not all(phrases):
        raise MergeError(
            "Composing by regions needs a trigger phrase for every LoRA; type the missing ones."
        )
    deltas = [summed_deltas(base, [pair]) for pair in adapters]
    shifts = [summed_shifts(base, [pair]) for pair in adapters]
    named = phrase_masks(base, batch.texts[0], phrases).amax(dim=1)  # (prompts, adapters)
    words, blank = (token_gate(base, texts, phrases) * named[:, None] for texts in batch.texts)
    guided = batch.common.guidance > 1  # then the pipeline stacks [unconditional, conditional]
    streams = 2 if guided else 1
    ones = torch.ones(streams * len(batch.pairs), len(adapters))
    gate = constant_gate(ones, base.pipeline.tokenizer.model_max_length, batch.latent)
    gate = silence_unnamed(gate, named.repeat(streams, 1))
    finder = RegionFinder(base, gate, concept_tokens(base, batch.texts[0], phrases))
    with gated(base, deltas, gate), gated(base, shifts, gate), torch.no_grad():
        prompts, empty = batch.texts
        gate.tokens = words
        cond = batch.states(prompts)
        gate.tokens = blank
        uncond = batch.states(empty)
        gate.tokens = torch.cat([blank, words][-streams:])
        with finder.recording():
            return batch.draw(cond, uncond, after_step=finder.update_regions)

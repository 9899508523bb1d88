"""Pictures from a base and adapters: the plain pipeline with the adapters' changes added exactly.

Adapters are summed at their strengths by our own hooks, never through a file loader, whose
scaling differs from file to file.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from merging.adapter import Adapter
from merging.deltas import Delta, scaled, stacked
from merging.diffusion.base import Base, latent_side
from merging.diffusion.gate import RegionFinder, concept_tokens, constant_gate, gated, word_gate
from merging.diffusion.sampling import POSITIONS_PER_BATCH
from merging.diffusion.tokens import text_ids
from merging.diffusion.words import taught
from merging.embedding import Embedding
from merging.errors import MergeError
from merging.memory import out_of_memory_told
from merging.progress import Progress, Stop, check, never, part, silent
from merging.whole import write_whole

Compose = Literal["sum", "gated"]

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
    guidance: float = 5.0,
    compose: Compose = "sum",
    progress: Progress = silent,
    stop: Stop = never,
) -> list[Image.Image]:
    """One picture per (prompt, seed) pair, its parameters in ``image.info["parameters"]``.

    compose "sum" adds the adapters up; "gated" lets each act on its own words and region only
    (merging/diffusion/gate.py), by the trigger phrases of the adapters. Prompts may say the words
    of ``embeddings``, and of those that the adapters bring.

    Noise is drawn on the CPU picture by picture, so a seed means the same on every device.
    Raises MergeError for values out of range, Cancelled once ``stop`` turns true.
    """
    if not 1 <= steps <= MAX_STEPS or not 0 <= guidance <= MAX_GUIDANCE:
        raise MergeError(
            f"Steps must be 1 to {MAX_STEPS} and guidance 0 to {MAX_GUIDANCE:g}, "
            f"not {steps} and {guidance:g}."
        )
    pairs = list(zip(prompts, seeds, strict=True))
    side = latent_side(base)
    size = max(1, POSITIONS_PER_BATCH // (2 * side * side))
    images: list[Image.Image] = []
    draw = _draw_gated if compose == "gated" else _draw_summed
    told = out_of_memory_told(f"Drawing on {base.device}", "close other programs that use it")
    brought = [each for adapter, _ in adapters for each in adapter.embeddings]
    with told, taught(base, [*brought, *embeddings]):
        text_ids(base, prompts)
        for start in range(0, len(pairs), size):
            check(stop)
            own = pairs[start : start + size]
            ahead = part(progress, start / len(pairs), (start + len(own)) / len(pairs))
            images += draw(_Batch(base, own, steps, guidance, ahead, stop), adapters)
    for image, (prompt, seed) in zip(images, pairs, strict=True):
        image.info["parameters"] = parameters(base, prompt, seed, steps, guidance, adapters)
    return images


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


def parameters(
    base: Base,
    prompt: str,
    seed: int,
    steps: int,
    guidance: float,
    adapters: Sequence[tuple[Adapter, float]],
) -> str:
    """The picture's origin in the spelling that A1111 and its relatives read."""
    loras = "".join(f" <lora:{adapter.name}:{strength:g}>" for adapter, strength in adapters)
    side = latent_side(base) * base.pipeline.vae_scale_factor
    return (
        f"{prompt}{loras}\nSteps: {steps}, Sampler: DDIM, CFG scale: {guidance:g}, Seed: {seed}, "
        f"Size: {side}x{side}, Model: {base.name}"
    )


def save_png(image: Image.Image, path: Path) -> None:
    """Write the picture with its parameters, whole or not at all."""
    info = PngInfo()
    info.add_text("parameters", image.info.get("parameters", ""))
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", pnginfo=info)
    write_whole(path, buffer.getvalue())


@dataclass(frozen=True)
class _Batch:
    """Pictures that go through the pipeline together."""

    base: Base
    pairs: Sequence[tuple[str, int]]  # (prompt, seed)
    steps: int
    guidance: float
    progress: Progress
    stop: Stop

    @property
    def texts(self) -> tuple[list[str], list[str]]:
        """The prompts, and as many empty ones for the unconditional half."""
        return [prompt for prompt, _ in self.pairs], [""] * len(self.pairs)

    def states(self, texts: Sequence[str]) -> Tensor:
        """What the text encoder makes of the texts: (texts, tokens, width)."""
        return self.base.pipeline.text_encoder(text_ids(self.base, texts))[0]

    def draw(
        self, cond: Tensor, uncond: Tensor, after_step: Callable[[], None] | None = None
    ) -> list[Image.Image]:
        """Denoise and decode; a stop between steps skips the rest of them."""

        def on_step(pipeline: Any, step: int, _timestep: int, values: dict) -> dict:
            pipeline._interrupt = self.stop()
            self.progress((step + 1) / self.steps, f"step {step + 1} of {self.steps}")
            if after_step:
                after_step()
            return values

        images = self.base.pipeline(
            prompt_embeds=cond,
            negative_prompt_embeds=uncond,
            num_inference_steps=self.steps,
            guidance_scale=self.guidance,
            generator=[torch.Generator().manual_seed(seed) for _, seed in self.pairs],
            callback_on_step_end=on_step,
        ).images
        check(self.stop)
        return images


def _draw_summed(batch: _Batch, adapters: Sequence[tuple[Adapter, float]]) -> list[Image.Image]:
    """The plain pipeline with the adapters' sum added to its weights."""
    with batch.base.changed(summed(batch.base, adapters)), torch.no_grad():
        cond, uncond = (batch.states(texts) for texts in batch.texts)
        return batch.draw(cond, uncond)


def _draw_gated(batch: _Batch, adapters: Sequence[tuple[Adapter, float]]) -> list[Image.Image]:
    """Every adapter on its own words and region; the regions follow the attention of each step."""
    base = batch.base
    phrases = [adapter.trigger for adapter, _ in adapters]
    if not phrases or not all(phrases):
        raise MergeError("Composing by regions needs adapters with a trigger phrase each.")
    deltas = [summed(base, [pair]) for pair in adapters]
    named, blank = (word_gate(base, texts, phrases) for texts in batch.texts)
    streams = 2 if batch.guidance > 1 else 1  # the pipeline stacks [unconditional, conditional]
    ones = torch.ones(streams * len(batch.pairs), len(adapters))
    gate = constant_gate(ones, base.pipeline.tokenizer.model_max_length, latent_side(base))
    finder = RegionFinder(base, gate, concept_tokens(named))
    with gated(base, deltas, gate), torch.no_grad():
        prompts, empty = batch.texts
        gate.words = named
        cond = batch.states(prompts)
        gate.words = blank
        uncond = batch.states(empty)
        gate.words = torch.cat([blank, named][-streams:])
        with finder.watching():
            return batch.draw(cond, uncond, after_step=finder.settle)

"""Pictures from a base and adapters: the plain pipeline with the adapters' changes added exactly.

Adapters are summed at their strengths by our own hooks, never through a file loader, whose
scaling differs from file to file.
"""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from merging.adapter import Adapter
from merging.deltas import Delta, scaled, stacked
from merging.diffusion.base import Base
from merging.diffusion.sampling import POSITIONS_PER_BATCH, text_ids
from merging.errors import MergeError
from merging.progress import Progress, Stop, check, never, silent

MAX_STEPS = 200
MAX_GUIDANCE = 30.0


def render(
    base: Base,
    prompts: Sequence[str],
    seeds: Sequence[int],
    *,
    adapters: Sequence[tuple[Adapter, float]] = (),
    steps: int = 25,
    guidance: float = 5.0,
    progress: Progress = silent,
    stop: Stop = never,
) -> list[Image.Image]:
    """One picture per (prompt, seed) pair, its parameters in ``image.info["parameters"]``.

    Noise is drawn on the CPU picture by picture, so a seed means the same on every device.
    Raises MergeError for values out of range, Cancelled once ``stop`` turns true.
    """
    if not 1 <= steps <= MAX_STEPS or not 0 <= guidance <= MAX_GUIDANCE:
        raise MergeError(
            f"Steps must be 1 to {MAX_STEPS} and guidance 0 to {MAX_GUIDANCE:g}, "
            f"not {steps} and {guidance:g}."
        )
    text_ids(base, prompts)
    pairs = list(zip(prompts, seeds, strict=True))
    side = base.pipeline.unet.config.sample_size
    size = max(1, POSITIONS_PER_BATCH // (2 * side * side))
    images: list[Image.Image] = []
    with base.changed(summed(base, adapters)):
        for start in range(0, len(pairs), size):
            check(stop)
            progress(start / len(pairs), f"picture {start + 1} of {len(pairs)}")
            images += _draw(base, pairs[start : start + size], steps, guidance, stop)
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
    side = base.pipeline.unet.config.sample_size * base.pipeline.vae_scale_factor
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
    beside = path.with_name(path.name + ".part")
    try:
        with beside.open("wb") as file:
            file.write(buffer.getvalue())
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def _draw(
    base: Base, pairs: Sequence[tuple[str, int]], steps: int, guidance: float, stop: Stop
) -> list[Image.Image]:
    """One batch through the pipeline; a stop between steps skips the rest of them."""

    def interrupt(pipeline: object, _step: int, _timestep: int, values: dict) -> dict:
        pipeline._interrupt = stop()  # type: ignore[attr-defined]
        return values

    with torch.no_grad():
        images = base.pipeline(
            [prompt for prompt, _ in pairs],
            num_inference_steps=steps,
            guidance_scale=guidance,
            generator=[torch.Generator().manual_seed(seed) for _, seed in pairs],
            callback_on_step_end=interrupt,
        ).images
    check(stop)
    return images

"""Calibration samples: (prompt, x_t, t), the latents from each teacher's own short trajectory.

Both halves of the lockstep see the same (prompt, x_t, t): free-running trajectories would drift
apart and leave nothing to pair.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from diffusers import DDIMScheduler
from torch import Tensor

from merging.deltas import Delta, stacked
from merging.diffusion.base import Base
from merging.errors import MergeError
from merging.progress import Progress, Stop, check
from merging.sweep import RowSet, Sweep

TRAJECTORY_STEPS = 10
# Latent positions per forward pass: 64 pictures of 16 × 16 latents, 4 of SD 1.5's 64 × 64.
POSITIONS_PER_BATCH = 16384


@dataclass(frozen=True)
class Sample:
    """One prompt of a row set, and where on its trajectory it is looked at."""

    row_set: int
    prompt: str
    latent: Tensor | None = None  # x_t (channels, height, width); None: only text is needed
    timestep: int = 0


def draw_samples(
    base: Base, sweep: Sweep, latents: bool, progress: Progress, stop: Stop
) -> list[Sample]:
    """Every prompt of every row set once, in order; with latents, its noise level evenly spread."""
    samples: list[Sample] = []
    for index, row_set in enumerate(sweep.row_sets):
        progress(index / len(sweep.row_sets), f"sampling {row_set.name}")
        if not latents:
            samples += [Sample(index, prompt) for prompt in row_set.prompts]
            continue
        with base.changed(teacher_deltas(sweep, row_set)):
            samples += _trajectories(base, sweep, index, stop)
    return samples


def teacher_deltas(sweep: Sweep, row_set: RowSet) -> dict[str, Delta]:
    """Layer → Σ_i w_i Δ_i, the change of this set's teacher."""
    merged: dict[str, Delta] = {}
    for deltas, weight in zip(sweep.deltas, row_set.weights, strict=True):
        for name, delta in deltas.items() if weight else ():
            own = Delta(weight * delta.up, delta.down)
            merged[name] = stacked([merged[name], own]) if name in merged else own
    return merged


def batches(base: Base, samples: Sequence[Sample], streams: int) -> list[Sequence[Sample]]:
    """Samples cut to fit one forward pass each, with ``streams`` copies of every sample in it."""
    side = base.pipeline.unet.config.sample_size
    size = max(1, POSITIONS_PER_BATCH // (side * side * streams))
    return [samples[i : i + size] for i in range(0, len(samples), size)]


def text_ids(base: Base, prompts: Sequence[str]) -> Tensor:
    """Token ids (prompts, length), padded as the pipeline does; a too long prompt is an error."""
    tokenizer = base.pipeline.tokenizer
    for prompt in prompts:
        used = len(tokenizer(prompt).input_ids)
        if used > tokenizer.model_max_length:
            raise MergeError(
                f"The prompt “{prompt[:60]}…” has {used} tokens and this base reads "
                f"{tokenizer.model_max_length}; shorten it."
            )
    ids = tokenizer(list(prompts), padding="max_length", return_tensors="pt").input_ids
    return ids.to(base.device)


def _trajectories(base: Base, sweep: Sweep, index: int, stop: Stop) -> list[Sample]:
    """DDIM without guidance for every prompt of one set; prompt p is kept at step p mod steps."""
    prompts = sweep.row_sets[index].prompts
    generator = torch.Generator().manual_seed(sweep.seed * 1009 + index)
    unet = base.pipeline.unet
    shape = (len(prompts), unet.config.in_channels, unet.config.sample_size, unet.config.sample_size)
    noise = torch.randn(shape, generator=generator).to(base.device, base.dtype)
    blank = [Sample(index, prompt) for prompt in prompts]
    samples: list[Sample] = []
    for batch in batches(base, blank, streams=1):
        start = len(samples)
        samples += _denoise(base, batch, noise[start : start + len(batch)], start, stop)
    return samples


@torch.no_grad()
def _denoise(
    base: Base, batch: Sequence[Sample], latents: Tensor, start: int, stop: Stop
) -> list[Sample]:
    scheduler = DDIMScheduler.from_config(base.pipeline.scheduler.config)
    scheduler.set_timesteps(TRAJECTORY_STEPS, device=base.device)
    states = base.pipeline.text_encoder(text_ids(base, [sample.prompt for sample in batch]))[0]
    kept: dict[int, Sample] = {}
    for step, timestep in enumerate(scheduler.timesteps):
        check(stop)
        for place, sample in enumerate(batch):
            if (start + place) % TRAJECTORY_STEPS == step:
                kept[place] = Sample(
                    sample.row_set, sample.prompt, latents[place].clone(), int(timestep)
                )
        if len(kept) == len(batch):
            break
        noise = base.pipeline.unet(latents, timestep, encoder_hidden_states=states).sample
        latents = scheduler.step(noise, timestep, latents).prev_sample
    return [kept[place] for place in range(len(batch))]

"""Calibration samples (prompt, x_t, t), with latents from a short trajectory of the teacher.

Teacher and merged model are run on the same (prompt, x_t, t): their rows can only be paired on
equal latents.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace

import torch
from diffusers import DDIMScheduler
from torch import Tensor

from merging.calibration.plan import Sweep
from merging.diffusion.attention_maps import phrase_masks
from merging.diffusion.base import Base, latent_side, latent_size
from merging.diffusion.gate import (
    Gate,
    RegionFinder,
    concept_tokens,
    constant_gate,
    gated,
    silence_unnamed,
    token_gate,
)
from merging.diffusion.tokens import counted_tokens, split_long, text_ids
from merging.runtime.progress import Progress, Stop, check, part
from merging.runtime.seeds import seed_for

TRAJECTORY_STEPS = 10
# Latent positions per forward pass: 64 pictures of 16 × 16 latents, 4 of SD 1.5's 64 × 64.
POSITIONS_PER_BATCH = 16384


@dataclass(frozen=True)
class Sample:
    """One prompt of a row set, at one step of its trajectory."""

    row_set: int
    prompt: str
    tokens: Tensor  # (tokens, LoRAs): weight of every LoRA at every token in the teacher
    regions: Tensor  # (LoRAs, height, width): weight at every position of the latent
    counted: Tensor  # (tokens,) of bool: the tokens that count in layers that read text
    latent: Tensor | None = None  # x_t (channels, height, width); None: only text is needed
    timestep: int = 0
    seed: int = 0  # for choosing the positions that count in layers that read the picture


def draw_samples(
    base: Base, sweep: Sweep, latents: bool, progress: Progress, stop: Stop
) -> list[Sample]:
    """One sample per prompt, in the order of the row sets; noise levels are evenly spread."""
    samples: list[Sample] = []
    for index, row_set in enumerate(sweep.row_sets):
        share = part(progress, index / len(sweep.row_sets), (index + 1) / len(sweep.row_sets))
        share(0.0, f"learning {row_set.subject}")
        blank = _blank_samples(base, sweep, index)
        samples += _trajectories(base, sweep, blank, share, stop) if latents else blank
    return samples


def gate_of(samples: Sequence[Sample]) -> Gate:
    """The gate of these samples: every LoRA's weights in their teacher."""
    return Gate(
        torch.stack([sample.tokens for sample in samples]),
        torch.stack([sample.regions for sample in samples]),
    )


def batches(base: Base, samples: Sequence[Sample], streams: int) -> list[Sequence[Sample]]:
    """Samples split into forward passes that hold ``streams`` copies of every sample."""
    side = latent_side(base)
    size = max(1, POSITIONS_PER_BATCH // (side * side * streams))
    return [samples[i : i + size] for i in range(0, len(samples), size)]


def _blank_samples(base: Base, sweep: Sweep, index: int) -> list[Sample]:
    """The samples of one row set without latents."""
    row_set = sweep.row_sets[index]
    prompts = [piece for prompt in row_set.prompts for piece in split_long(base, prompt)]
    weights = torch.tensor([row_set.weights] * len(prompts))
    gate = constant_gate(weights, base.pipeline.tokenizer.model_max_length, latent_size(base))
    if row_set.gated:
        gate.tokens = token_gate(base, prompts, row_set.phrases)
        gate = silence_unnamed(gate, phrase_masks(base, prompts, row_set.phrases).amax(dim=1))
    tokens = counted_tokens(base, prompts, row_set.phrases, sweep.padding, sweep.tokens)
    rows = zip(prompts, gate.tokens, gate.regions, tokens, strict=True)
    return [
        Sample(index, *row, seed=seed_for(sweep.seed, "rows", row_set.name, str(number)))
        for number, row in enumerate(rows)
    ]


def _trajectories(
    base: Base, sweep: Sweep, blank: Sequence[Sample], progress: Progress, stop: Stop
) -> list[Sample]:
    """DDIM without guidance for the prompts of one set; prompt p stops at step p mod steps.

    Prompts with the most steps are batched together.
    """
    row_set = sweep.row_sets[blank[0].row_set]
    generator = torch.Generator().manual_seed(seed_for(sweep.seed, "noise", row_set.name))
    side = latent_side(base)
    shape = (len(blank), base.pipeline.unet.config.in_channels, side, side)
    noise = torch.randn(shape, generator=generator).to(base.device, base.dtype)
    order = sorted(range(len(blank)), key=lambda number: -(number % TRAJECTORY_STEPS))
    done: dict[int, Sample] = {}
    for batch in batches(base, [blank[number] for number in order], streams=1):
        progress(len(done) / len(blank), f"learning {row_set.subject}")
        numbers = order[len(done) : len(done) + len(batch)]
        last_steps = [number % TRAJECTORY_STEPS for number in numbers]
        samples = _denoise(base, sweep, batch, noise[numbers], last_steps, stop)
        done.update(zip(numbers, samples, strict=True))
    return [done[number] for number in range(len(blank))]


@torch.no_grad()
def _denoise(
    base: Base,
    sweep: Sweep,
    batch: Sequence[Sample],
    latents: Tensor,
    last_steps: Sequence[int],
    stop: Stop,
) -> list[Sample]:
    """One batch under its teacher, every sample to x_t of its last step; falling ``last_steps``.

    Samples leave the batch at their last step, unless a gate still updates their regions.
    """
    scheduler = DDIMScheduler.from_config(base.pipeline.scheduler.config)
    scheduler.set_timesteps(TRAJECTORY_STEPS, device=base.device)
    gate, final = gate_of(batch), latents.clone()
    row_set, prompts = sweep.row_sets[batch[0].row_set], [sample.prompt for sample in batch]
    finder = RegionFinder(base, gate, concept_tokens(base, prompts, row_set.phrases))
    recording = finder.recording() if row_set.gated else nullcontext()
    with gated(base, sweep.teachers, gate), gated(base, sweep.teacher_shifts, gate), recording:
        states = base.pipeline.text_encoder(text_ids(base, prompts))[0]
        for step, timestep in enumerate(scheduler.timesteps):
            check(stop)
            ready = [i for i, last_step in enumerate(last_steps) if last_step == step]
            final[ready] = latents[ready]
            live = len(batch) if row_set.gated else sum(last > step for last in last_steps)
            if not live:
                break
            latents, states = latents[:live], states[:live]
            gate.tokens, gate.regions = gate.tokens[:live], gate.regions[:live]
            noise = base.pipeline.unet(latents, timestep, encoder_hidden_states=states).sample
            latents = scheduler.step(noise, timestep, latents).prev_sample
            if row_set.gated:
                finder.update_regions()
    times = scheduler.timesteps.tolist()
    regions = gate.regions if row_set.gated else [sample.regions for sample in batch]
    return [
        replace(sample, latent=latent, timestep=times[step], regions=weights)
        for sample, latent, step, weights in zip(batch, final, last_steps, regions, strict=True)
    ]

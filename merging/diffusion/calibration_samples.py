"""Calibration samples: (prompt, x_t, t), the latents from each teacher's own short trajectory.

Both halves of the lockstep see the same (prompt, x_t, t): free-running trajectories would drift
apart and leave nothing to pair.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace

import torch
from diffusers import DDIMScheduler
from torch import Tensor

from merging.calibration.plan import Sweep
from merging.diffusion.attention_maps import marked
from merging.diffusion.base import Base, latent_side, latent_size
from merging.diffusion.gate import (
    Gate,
    RegionFinder,
    concept_tokens,
    constant_gate,
    gated,
    silenced,
    word_gate,
)
from merging.diffusion.tokens import counted, text_ids
from merging.runtime.progress import Progress, Stop, check, part
from merging.runtime.seeds import seed_for

TRAJECTORY_STEPS = 10
# Latent positions per forward pass: 64 pictures of 16 × 16 latents, 4 of SD 1.5's 64 × 64.
POSITIONS_PER_BATCH = 16384


@dataclass(frozen=True)
class Sample:
    """One prompt of a row set, and where on its trajectory it is looked at."""

    row_set: int
    prompt: str
    words: Tensor  # (tokens, LoRAs): each LoRA's weight at every token in the teacher
    regions: Tensor  # (LoRAs, height, width): and at every position of the latent
    counted: Tensor  # (tokens,) of bool: whose rows count in layers that read text
    latent: Tensor | None = None  # x_t (channels, height, width); None: only text is needed
    timestep: int = 0
    seed: int = 0  # of the choice of positions that count in layers that read the picture


def draw_samples(
    base: Base, sweep: Sweep, latents: bool, progress: Progress, stop: Stop
) -> list[Sample]:
    """Every prompt of every row set once, in order; with latents, its noise level evenly spread."""
    samples: list[Sample] = []
    for index, row_set in enumerate(sweep.row_sets):
        own = part(progress, index / len(sweep.row_sets), (index + 1) / len(sweep.row_sets))
        own(0.0, f"sampling {row_set.name}")
        blank = _blank_samples(base, sweep, index)
        samples += _trajectories(base, sweep, blank, own, stop) if latents else blank
    return samples


def gate_of(samples: Sequence[Sample]) -> Gate:
    """The weights of these samples' teachers."""
    return Gate(
        torch.stack([sample.words for sample in samples]),
        torch.stack([sample.regions for sample in samples]),
    )


def batches(base: Base, samples: Sequence[Sample], streams: int) -> list[Sequence[Sample]]:
    """Samples cut to fit one forward pass each, with ``streams`` copies of every sample in it."""
    side = latent_side(base)
    size = max(1, POSITIONS_PER_BATCH // (side * side * streams))
    return [samples[i : i + size] for i in range(0, len(samples), size)]


def _blank_samples(base: Base, sweep: Sweep, index: int) -> list[Sample]:
    """The prompts of one set with their teacher's weights, before anything is sampled."""
    row_set = sweep.row_sets[index]
    prompts = row_set.prompts
    weights = torch.tensor([row_set.weights] * len(prompts))
    gate = constant_gate(weights, base.pipeline.tokenizer.model_max_length, latent_size(base))
    if row_set.gated:
        gate.words = word_gate(base, prompts, row_set.phrases)
        gate = silenced(gate, marked(base, prompts, row_set.phrases).amax(dim=1))
    kept = counted(base, prompts, row_set.phrases, sweep.padding, sweep.tokens)
    rows = enumerate(zip(prompts, gate.words, gate.regions, kept, strict=True))
    return [
        Sample(index, *row, seed=seed_for(sweep.seed, "rows", row_set.name, str(place)))
        for place, row in rows
    ]


def _trajectories(
    base: Base, sweep: Sweep, blank: Sequence[Sample], progress: Progress, stop: Stop
) -> list[Sample]:
    """DDIM without guidance for every prompt of one set; prompt p is kept at step p mod steps.

    Those with the longest way to go are batched together.
    """
    name = sweep.row_sets[blank[0].row_set].name
    generator = torch.Generator().manual_seed(seed_for(sweep.seed, "noise", name))
    side = latent_side(base)
    shape = (len(blank), base.pipeline.unet.config.in_channels, side, side)
    noise = torch.randn(shape, generator=generator).to(base.device, base.dtype)
    order = sorted(range(len(blank)), key=lambda place: -(place % TRAJECTORY_STEPS))
    found: dict[int, Sample] = {}
    for batch in batches(base, [blank[place] for place in order], streams=1):
        progress(len(found) / len(blank), f"sampling {name}")
        own = order[len(found) : len(found) + len(batch)]
        wanted = [place % TRAJECTORY_STEPS for place in own]
        kept = _denoise(base, sweep, batch, noise[own], wanted, stop)
        found.update(zip(own, kept, strict=True))
    return [found[place] for place in range(len(blank))]


@torch.no_grad()
def _denoise(
    base: Base,
    sweep: Sweep,
    batch: Sequence[Sample],
    latents: Tensor,
    wanted: Sequence[int],
    stop: Stop,
) -> list[Sample]:
    """One batch under its teacher; of each picture, x_t at the wanted step, the latest first.

    A picture goes no further than that, unless its regions are still being looked for.
    """
    scheduler = DDIMScheduler.from_config(base.pipeline.scheduler.config)
    scheduler.set_timesteps(TRAJECTORY_STEPS, device=base.device)
    gate, kept = gate_of(batch), latents.clone()
    row_set, prompts = sweep.row_sets[batch[0].row_set], [each.prompt for each in batch]
    finder = RegionFinder(base, gate, concept_tokens(base, prompts, row_set.phrases))
    watching = finder.watching() if row_set.gated else nullcontext()
    with gated(base, sweep.teachers, gate), gated(base, sweep.teacher_shifts, gate), watching:
        states = base.pipeline.text_encoder(text_ids(base, prompts))[0]
        for step, timestep in enumerate(scheduler.timesteps):
            check(stop)
            here = [place for place, each in enumerate(wanted) if each == step]
            kept[here] = latents[here]
            live = len(batch) if row_set.gated else sum(each > step for each in wanted)
            if not live:
                break
            latents, states = latents[:live], states[:live]
            gate.words, gate.regions = gate.words[:live], gate.regions[:live]
            noise = base.pipeline.unet(latents, timestep, encoder_hidden_states=states).sample
            latents = scheduler.step(noise, timestep, latents).prev_sample
            if row_set.gated:
                finder.settle()
    times = scheduler.timesteps.tolist()
    regions = gate.regions if row_set.gated else [sample.regions for sample in batch]
    return [
        replace(sample, latent=latent, timestep=times[step], regions=own)
        for sample, latent, step, own in zip(batch, kept, wanted, regions, strict=True)
    ]

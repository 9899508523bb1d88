"""The pictures that a refined merge learns from: composites, each LoRA alone, and other things."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch

from merging.base_models import base_model
from merging.calibration.plan import RefinePlan
from merging.calibration.prompts import concept_prompts, plain_prompts
from merging.calibration.refine_size import LESSON_PICTURES, LESSON_STEPS
from merging.diffusion.base import latent_size
from merging.diffusion.refine.checkpoint import Checkpoint
from merging.diffusion.refine.composites import Composites, draw_composites
from merging.diffusion.refine.concept import NO_CHANGE, ModelChange
from merging.diffusion.refine.judge import Judge
from merging.diffusion.refine.pictures import Pictures, kept_pictures
from merging.diffusion.refine.sampling import draw_latents, seeded_noise
from merging.runtime.progress import Progress, part
from merging.runtime.seeds import seed_for


@dataclass(frozen=True)
class Lessons:
    """All of them; in ``alone`` one part for every LoRA."""

    composites: Composites
    alone: tuple[Pictures, ...]
    plain: Pictures


def draw_lessons(judge: Judge, plan: RefinePlan, saved: Checkpoint, progress: Progress) -> Lessons:
    """Draw them all, with seeds of the plan's; what a checkpoint has already is not drawn again."""
    composites = draw_composites(judge, plan.seed, saved, part(progress, 0.0, 0.8))
    alone, count, device = part(progress, 0.8, 0.95), len(judge.concepts), judge.base.device
    parts = []
    for i in range(count):
        make = partial(_alone, judge, plan, i, part(alone, i / count, (i + 1) / count))
        parts.append(kept_pictures(saved, f"alone-{i}", device, make))
    make = partial(_plain, judge, plan, part(progress, 0.95, 1.0))
    return Lessons(composites, tuple(parts), kept_pictures(saved, "plain", device, make))


def _alone(judge: Judge, plan: RefinePlan, i: int, progress: Progress) -> Pictures:
    """What LoRA i draws, of its own prompts or of sentences with its phrase."""
    concept, given = judge.concepts[i], plan.prompts[i]
    seed = seed_for(plan.seed, "alone", concept.phrase)
    prompts = given or concept_prompts(concept.phrase, LESSON_PICTURES, seed)
    weights = [float(i == k) for k in range(len(judge.concepts))]
    drawn = [prompts[number % len(prompts)] for number in range(LESSON_PICTURES)]
    return _drawn(judge, drawn, concept.change, weights, seed, progress)


def _plain(judge: Judge, plan: RefinePlan, progress: Progress) -> Pictures:
    """What the base draws of other things."""
    phrases = [concept.phrase for concept in judge.concepts]
    seed = seed_for(plan.seed, "plain")
    prompts = plain_prompts(LESSON_PICTURES, seed, phrases)
    return _drawn(judge, prompts, NO_CHANGE, [0.0] * len(phrases), seed, progress)


def _drawn(
    judge: Judge,
    prompts: Sequence[str],
    change: ModelChange,
    weights: Sequence[float],
    seed: int,
    progress: Progress,
) -> Pictures:
    """One picture of each prompt, with the same weights at all places."""
    base, size = judge.base, latent_size(judge.base)
    noise = seeded_noise(base, [seed_for(seed, str(k)) for k in range(len(prompts))], size)
    guidance = base_model(base.name).guidance
    latents = draw_latents(
        base, prompts, noise, change, steps=LESSON_STEPS, guidance=guidance, progress=progress
    )
    everywhere = torch.tensor(weights)[None, :, None, None].expand(len(prompts), -1, *size)
    return Pictures(latents, tuple(prompts), everywhere)

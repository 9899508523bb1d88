"""The pictures that a refined merge learns from: composites, each LoRA alone, and other things."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from merging.base_models import base_model
from merging.calibration.plan import RefinePlan
from merging.calibration.prompts import concept_prompts, plain_prompts
from merging.diffusion.base import latent_size
from merging.diffusion.refine.composites import Composites, Pictures, draw_composites
from merging.diffusion.refine.concept import NO_CHANGE, ModelChange
from merging.diffusion.refine.judge import Judge
from merging.diffusion.refine.sampling import draw_latents, seeded_noise
from merging.runtime.progress import Progress, part
from merging.runtime.seeds import seed_for

ALONE, STEPS = 48, 12  # pictures of each LoRA, and of other things; sampling steps


@dataclass(frozen=True)
class Lessons:
    """All of them; in ``alone`` one part for every LoRA."""

    composites: Composites
    alone: tuple[Pictures, ...]
    plain: Pictures


def draw_lessons(judge: Judge, plan: RefinePlan, progress: Progress) -> Lessons:
    """Draw them all, with seeds of the plan's."""
    composites = draw_composites(judge, plan.seed, part(progress, 0.0, 0.7))
    alone = part(progress, 0.7, 0.9)
    count = len(judge.concepts)
    parts = [_alone(judge, plan, i, part(alone, i / count, (i + 1) / count)) for i in range(count)]
    return Lessons(composites, tuple(parts), _plain(judge, plan, part(progress, 0.9, 1.0)))


def _alone(judge: Judge, plan: RefinePlan, i: int, progress: Progress) -> Pictures:
    """What LoRA i draws, of its own prompts or of sentences with its phrase."""
    concept, given = judge.concepts[i], plan.prompts[i]
    seed = seed_for(plan.seed, "alone", concept.phrase)
    prompts = given or concept_prompts(concept.phrase, ALONE, seed)
    weights = [float(i == k) for k in range(len(judge.concepts))]
    drawn = [prompts[number % len(prompts)] for number in range(ALONE)]
    return _drawn(judge, drawn, concept.change, weights, seed, progress)


def _plain(judge: Judge, plan: RefinePlan, progress: Progress) -> Pictures:
    """What the base draws of other things."""
    phrases = [concept.phrase for concept in judge.concepts]
    seed = seed_for(plan.seed, "plain")
    prompts = plain_prompts(ALONE, seed, phrases)
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
        base, prompts, noise, change, steps=STEPS, guidance=guidance, progress=progress
    )
    everywhere = torch.tensor(weights)[None, :, None, None].expand(len(prompts), -1, *size)
    return Pictures(latents, tuple(prompts), everywhere)

"""Pictures in which every LoRA draws its own thing: they paint one after the other, without boxes.

x¹     what LoRA 1 draws for the whole prompt: its own thing, and the others as the base knows them
a_k(p) advantage of LoRA k in what was drawn so far (`merging.diffusion.refine.advantage`)
K_k    the kept part: all earlier ones, and where a_k is above 0.35 of its best, one place wider
x^k    LoRA k paints what K leaves free, from another noise: at each step K is the earlier picture,
       noised to that step
A style has no place of its own: it draws over the finished picture (image to image, SDEdit,
arXiv:2108.01073). Where several phrases end in the same word, as "sks cat" and "mwb cat" do, each
LoRA answers to the others' things as well; then K_k is cut to the surroundings of a_k's best place.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from merging.diffusion.base import Base
from merging.diffusion.refine.advantage import advantage, window
from merging.diffusion.refine.concept import NO_CHANGE, Concept
from merging.diffusion.refine.sampling import KeptPart, draw_latents, seeded_noise
from merging.runtime.progress import Progress, part, silent
from merging.runtime.seeds import seed_for

TIMES, DRAWS = (400, 600), 2  # of a_k: fewer than a judge needs
KEPT = 0.35  # share of the best advantage above which a place is kept
GROWTH = 3 / 16  # window by which the kept part grows, as a share of the latent's side
SPOT = 9 / 16  # side of the surroundings of the best place, for two of a kind


def paint(
    base: Base,
    concepts: Sequence[Concept],
    prompts: Sequence[str],
    seeds: Sequence[int],
    size: tuple[int, int],
    *,
    steps: int,
    guidance: float,
    negative: str = "",
    progress: Progress = silent,
) -> Tensor:
    """x₀ (prompts, channels, height, width), the concepts painting in this order, styles last.

    One concept paints exactly what its LoRA draws, and none what the base draws. Costs 2 passes of
    the UNet per concept and step, and 8 more for every thing but the last.
    """
    things = [concept for concept in concepts if not concept.style]
    styles = [concept for concept in concepts if concept.style]
    first = things or styles[:1]
    rounds = [*first, *(styles if things else styles[1:])]
    settings: dict[str, Any] = {"steps": steps, "guidance": guidance, "negative": negative}
    latents, mask = torch.empty(0), torch.zeros(len(prompts), 1, *size)
    for k, concept in enumerate(rounds):
        share = part(progress, k / len(rounds), (k + 1) / len(rounds))
        noise = seeded_noise(base, [_round_seed(seed, k) for seed in seeds], size)
        if k >= len(first):
            latents = draw_latents(
                base, prompts, noise, concept.change, over=latents, **settings, progress=share
            )
            continue
        kept = KeptPart(latents, mask.to(latents), noise) if k else None
        latents = draw_latents(
            base, prompts, noise, concept.change, kept=kept, **settings, progress=share
        )
        if k + 1 < len(first):
            mask = torch.maximum(mask, own_part(base, latents, prompts, concept, things, mask))
    if not rounds:
        noise = seeded_noise(base, seeds, size)
        latents = draw_latents(base, prompts, noise, NO_CHANGE, **settings, progress=progress)
    return latents


def own_part(
    base: Base,
    latents: Tensor,
    prompts: Sequence[str],
    concept: Concept,
    concepts: Sequence[Concept],
    taken: Tensor,
) -> Tensor:
    """K_k outside what is taken: (pictures, 1, height, width) of 0 and 1, on the CPU."""
    maps = advantage(base, latents, prompts, concept.change, times=TIMES, draws=DRAWS)
    others = (other for other in concepts if other is not concept)
    return kept_part(maps, taken, any(same_kind(concept, other) for other in others))


def kept_part(maps: Tensor, taken: Tensor, alike: bool) -> Tensor:
    """The same, from a_k (pictures, height, width); ``alike``: others answer to the same word."""
    maps = maps[:, None].clamp_min(0) * (1 - taken)
    if alike:
        maps = maps * surroundings(maps)
    above = (maps > KEPT * maps.amax(dim=(2, 3), keepdim=True)).float()
    return grown(above)


def grown(mask: Tensor) -> Tensor:
    """The mask (pictures, 1, height, width), wider by half a window on every side."""
    side = window(mask, GROWTH)
    return F.max_pool2d(mask, side, 1, side // 2)


def same_kind(one: Concept, other: Concept) -> bool:
    """Whether both phrases end in the same word, the name of the thing."""
    last, others = (concept.phrase.casefold().split()[-1:] for concept in (one, other))
    return bool(last) and last == others


def surroundings(maps: Tensor) -> Tensor:
    """1 in a window around the largest value of each map (pictures, 1, height, width), else 0."""
    peak = F.one_hot(maps.flatten(1).argmax(dim=1), maps[0].numel())
    side = window(maps, SPOT)
    return F.max_pool2d(peak.float().reshape(maps.shape), side, 1, side // 2)


def _round_seed(seed: int, k: int) -> int:
    """The picture's own seed for the first to paint, another for each of the others."""
    return seed_for(seed, "paint", str(k)) if k else seed

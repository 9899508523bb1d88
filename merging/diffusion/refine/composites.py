"""Composites: pictures that show two concepts, painted by their LoRAs and checked by them alone.

m_i(p)  advantage of LoRA i in thresholds (`merging.diffusion.refine.judge`)
p_i     the place with the largest m_i
A composite is kept if m_i(p_i) > 1 for both things, each is at most 0.6 of its best at the other's
p, and the two p are a quarter of a side apart. With a style, the style must be above 1 on average
and the thing above 1 at its p.
w_i(p)  weight of LoRA i at every place, as a target: 1 where its advantage is above a quarter of
        its best and the largest, one place wider and with soft edges; a style's is 1 everywhere
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import permutations

import torch
import torch.nn.functional as F
from torch import Tensor

from merging.base_models import base_model
from merging.calibration.prompts import composed_prompts
from merging.calibration.refine_size import PAINTED_STEPS, tried_of_each
from merging.diffusion.base import latent_size
from merging.diffusion.calibration_samples import POSITIONS_PER_BATCH
from merging.diffusion.refine.advantage import window
from merging.diffusion.refine.checkpoint import Checkpoint
from merging.diffusion.refine.concept import Concept
from merging.diffusion.refine.judge import Judge
from merging.diffusion.refine.paint import GROWTH, grown, paint
from merging.diffusion.refine.pictures import Pictures, joined, kept_pictures
from merging.runtime.progress import Progress, part
from merging.runtime.seeds import seed_for

ELSEWHERE = 0.6  # most of its best that a thing may have at the other's place
APART = 1 / 4  # distance of the two places, as a share of the side
PLACED = 0.25  # share of the best advantage above which a place has weight

Order = tuple[int, int]  # indices of the LoRA that paints first, and of the other


@dataclass(frozen=True)
class Composites:
    """The composites that were kept, and how many were tried."""

    pictures: Pictures
    tried: dict[str, int]  # "sks cat + qfj dog", in the order of painting
    kept: dict[str, int]


def orders(concepts: Sequence[Concept]) -> list[Order]:
    """Every ordered pair of things, and every thing with every style after it."""
    return [(i, j) for i, j in permutations(range(len(concepts)), 2) if not concepts[i].style]


def draw_composites(judge: Judge, seed: int, saved: Checkpoint, progress: Progress) -> Composites:
    """Paint and check every order of two concepts, batch by batch; each order is kept."""
    pairs = orders(judge.concepts)
    parts, tried, kept = [], {}, {}
    for number, order in enumerate(pairs):
        share = part(progress, number / len(pairs), (number + 1) / len(pairs))
        name = " + ".join(judge.concepts[i].phrase for i in order)
        count = tried_of_each(len(pairs))
        make = partial(_composites_of, judge, order, count, seed, share)
        pictures = kept_pictures(saved, f"composites-{number}", judge.base.device, make)
        parts.append(pictures)
        tried[name], kept[name] = count, len(pictures)
    return Composites(joined(parts), tried, kept)


def _composites_of(
    judge: Judge, order: Order, count: int, seed: int, progress: Progress
) -> Pictures:
    """Those of one order that are kept."""
    base, two = judge.base, [judge.concepts[i] for i in order]
    phrases = sorted(concept.phrase for concept in two)
    prompts = composed_prompts(phrases, count, seed_for(seed, "painted", *phrases))
    names = [concept.phrase for concept in two]
    seeds = [seed_for(seed, "painted", *names, str(number)) for number in range(count)]
    pair = judge.of(order)
    size, parts = latent_size(base), []
    batch = max(1, POSITIONS_PER_BATCH // (2 * size[0] * size[1]))
    for start in range(0, count, batch):
        rows = slice(start, start + batch)
        share = part(progress, start / count, min(1.0, (start + batch) / count))
        share(0.0, f"painting {' and '.join(names)}")
        latents = paint(
            base,
            two,
            prompts[rows],
            seeds[rows],
            size,
            steps=PAINTED_STEPS,
            guidance=base_model(base.name).guidance,
            progress=share,
        )
        maps = pair.maps(latents, prompts[rows])
        weights = torch.zeros(len(latents), len(judge.concepts), *size)
        advantages = maps * torch.tensor(pair.thresholds)[:, None, None]
        weights[:, list(order)] = place_weights(advantages, [concept.style for concept in two])
        good = shows_both(maps, [concept.style for concept in two]).nonzero().flatten().tolist()
        parts.append(Pictures(latents, prompts[rows], weights).rows(good))
    return joined(parts)


def shows_both(maps: Tensor, styles: Sequence[bool]) -> Tensor:
    """Whether each picture passes the check at the top, by m (pictures, 2, height, width)."""
    best, places = maps.flatten(2).max(dim=2)
    if any(styles):
        thing, style = styles.index(False), styles.index(True)
        return (best[:, thing] > 1) & (maps[:, style].mean(dim=(1, 2)) > 1)
    across = maps.flatten(2).gather(2, places.flip(1)[..., None])[..., 0]  # m_i at the other's p
    rows, columns = places // maps.shape[3], places % maps.shape[3]
    distance = (rows[:, 0] - rows[:, 1]).abs() + (columns[:, 0] - columns[:, 1]).abs()
    apart = distance >= APART * min(maps.shape[2:])
    return (best > 1).all(dim=1) & (across < ELSEWHERE * best).all(dim=1) & apart


def place_weights(maps: Tensor, styles: Sequence[bool]) -> Tensor:
    """w of advantages (pictures, LoRAs, height, width), same shape; things' sum to 1 at most."""
    is_style = torch.tensor(styles)[None, :, None, None]
    maps = maps.clamp_min(0).masked_fill(is_style, 0)
    above = maps > PLACED * maps.amax(dim=(2, 3), keepdim=True)
    values = torch.stack([grown(one[:, None])[:, 0] for one in (maps * above).unbind(1)], dim=1)
    most, owner = values.max(dim=1, keepdim=True)
    owned = torch.zeros_like(values).scatter_(1, owner, (most > 0).float())
    side = window(owned, GROWTH)
    soft = F.avg_pool2d(owned, side, 1, side // 2, count_include_pad=False)
    return torch.where(is_style, 1.0, soft)

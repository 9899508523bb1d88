"""LoRA-LEGO (arXiv:2409.16167): all rank-one units pooled, clustered and averaged."""

from __future__ import annotations

import torch
from torch import Tensor

from merging.linalg.closed_form import LayerProblem
from merging.linalg.core_space import CoreSpace, hosted
from merging.linalg.delta import Delta
from merging.linalg.low_rank import balanced

ROUNDS = 10  # of Lloyd's algorithm; it mostly settles earlier


def lora_lego(problem: LayerProblem) -> Delta:
    """k-means over the units x = [b; a] of all LoRAs; every cluster becomes one unit.

    A unit is a column b of B and its row a of A, equally long. The rank stays that of the largest
    LoRA, so the paper's second factor √(r/K) is 1. A cluster's mean is made as long as its
    members are on average (the paper's first factor; in the 2-norm, which no basis changes).
    (b, a) and (−b, −a) are the same change, so units meet with the sign that makes them closer.
    """
    return hosted(problem, _rebuilt)


def _rebuilt(space: CoreSpace) -> Delta:
    parts = [space.inner(balanced(part.delta)) for part in space.parts]
    units = torch.cat([torch.cat([part.up.T, part.down], dim=1) for part in parts])
    lengths = units.norm(dim=1)
    units, lengths = units[lengths > 0], lengths[lengths > 0]
    count = min(len(units), max(part.rank for part in parts))
    membership = clustered(units / lengths[:, None], count)
    means = membership @ units
    wanted = membership.abs() @ lengths
    means = means * (wanted / means.norm(dim=1))[:, None]
    side = space.left.shape[1]
    return space.outer(Delta(means[:, :side].T, means[:, side:]))


def clustered(points: Tensor, count: int) -> Tensor:
    """Rows of signed membership (clusters, points), |row| summing to 1, for points of length 1."""
    centres = points[_far_apart(points, count)]
    for _ in range(ROUNDS):
        membership = _nearest(points, centres)
        new = membership @ points
        new = new / new.norm(dim=1, keepdim=True)
        if new.shape == centres.shape and torch.equal(new, centres):
            break
        centres = new
    return membership


def _nearest(points: Tensor, centres: Tensor) -> Tensor:
    """Every point's sign at the centre that it is most parallel to; empty clusters left out."""
    likeness = points @ centres.T
    own = likeness.abs().argmax(dim=1)
    member = torch.nn.functional.one_hot(own, len(centres)).to(points.dtype).T
    sign = torch.where(likeness.gather(1, own[:, None])[:, 0] < 0, -1.0, 1.0)
    sizes = member.sum(dim=1, keepdim=True)
    return (member * sign / sizes.clamp_min(1))[sizes[:, 0] > 0]


def _far_apart(points: Tensor, count: int) -> list[int]:
    """The first point, then always the one least parallel to those chosen."""
    chosen = [0]
    likeness = (points @ points[0]).abs()
    while len(chosen) < count:
        chosen.append(int(likeness.argmin().item()))
        likeness = torch.maximum(likeness, (points @ points[chosen[-1]]).abs())
    return chosen

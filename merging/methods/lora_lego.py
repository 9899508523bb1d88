"""LoRA-LEGO (arXiv:2409.16167): all rank-one units pooled, clustered and averaged."""

from __future__ import annotations

import torch
from torch import Tensor

from merging.linalg.closed_form import LayerProblem
from merging.linalg.core_space import CoreSpace, merge_in_core_space
from merging.linalg.delta import Delta
from merging.linalg.low_rank import balance

ROUNDS = 10  # of Lloyd's algorithm; it mostly settles earlier


def lora_lego(problem: LayerProblem) -> Delta:
    """k-means over the units x = [b; a] of all LoRAs; every cluster becomes one unit.

    A unit is a column b of B and its row a of A, equally long. The result has the rank of the
    largest LoRA, so the paper's second factor √(r/K) is 1. A cluster's mean gets the mean length
    of its members (the paper's first factor; here in the 2-norm, which depends on no basis).
    (b, a) and (−b, −a) are the same change, so a unit joins a cluster with the closer sign.
    """
    return merge_in_core_space(problem, _merge_units)


def _merge_units(space: CoreSpace) -> Delta:
    projections = [space.project(balance(lora.delta)) for lora in space.loras]
    units = torch.cat([torch.cat([delta.up.T, delta.down], dim=1) for delta in projections])
    lengths = units.norm(dim=1)
    units, lengths = units[lengths > 0], lengths[lengths > 0]
    count = min(len(units), max(delta.rank for delta in projections))
    membership = cluster(units / lengths[:, None], count)
    means = membership @ units
    mean_lengths = membership.abs() @ lengths
    means = means * (mean_lengths / means.norm(dim=1))[:, None]
    side = space.left.shape[1]
    return space.expand(Delta(means[:, :side].T, means[:, side:]))


def cluster(points: Tensor, count: int) -> Tensor:
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
    """Membership of every point at the most parallel centre; empty clusters are left out."""
    similarity = points @ centres.T
    nearest = similarity.abs().argmax(dim=1)
    member = torch.nn.functional.one_hot(nearest, len(centres)).to(points.dtype).T
    sign = torch.where(similarity.gather(1, nearest[:, None])[:, 0] < 0, -1.0, 1.0)
    sizes = member.sum(dim=1, keepdim=True)
    return (member * sign / sizes.clamp_min(1))[sizes[:, 0] > 0]


def _far_apart(points: Tensor, count: int) -> list[int]:
    """The first point, then always the one least parallel to those chosen."""
    chosen = [0]
    similarity = (points @ points[0]).abs()
    while len(chosen) < count:
        chosen.append(int(similarity.argmin().item()))
        similarity = torch.maximum(similarity, (points @ points[chosen[-1]]).abs())
    return chosen

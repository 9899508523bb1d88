"""WIDEN (arXiv:2408.03092): every input column weighed by how much each LoRA changes it."""

from __future__ import annotations

import torch
from torch import Tensor

from merging.linalg.closed_form import LayerProblem, zero_delta
from merging.linalg.core_space import active_loras
from merging.linalg.delta import Delta

RATIO = 1.0  # the paper's t: columns above t times their LoRA's mean rank count as essential
ESSENTIAL = 1.0  # the paper's s: the weight of an essential column


def widen(problem: LayerProblem) -> Delta:
    """Δ* = Σ_i Δ_i diag(½ (mag_i + dir_i)), weights (in,) in (0, 1].

    mag_i ranks the columns of W0 by how much LoRA i changes their length, dir_i by how much it
    turns them. Weights are a softmax of the ranks over the LoRAs; essential columns get ESSENTIAL.
    """
    if problem.weight is None:
        raise ValueError("WIDEN needs the base weight")
    loras = active_loras(problem)
    if not loras:
        return zero_delta(problem)
    distances = [_column_changes(problem.weight, lora.delta) for lora in loras]
    lengths, turns = (importance(torch.stack(rows)) for rows in zip(*distances, strict=True))
    weights = (lengths + turns) / 2
    downs = [lora.delta.down * weight for lora, weight in zip(loras, weights, strict=True)]
    return Delta(torch.cat([lora.delta.up for lora in loras], dim=1), torch.cat(downs))


def importance(distances: Tensor) -> Tensor:
    """Weight of every column for every LoRA, from how much it changes it: both (LoRAs, in)."""
    order = distances.argsort(dim=1, stable=True).argsort(dim=1)
    ranks = order.to(distances.dtype) / distances.shape[1]
    essential = ranks > RATIO * ranks.mean(dim=1, keepdim=True)
    return torch.where(essential, ESSENTIAL, ranks.softmax(dim=0))


def _column_changes(weight: Tensor, delta: Delta) -> tuple[Tensor, Tensor]:
    """|‖w + δ‖ − ‖w‖| and 1 − cos(w, w + δ) of every column (in,), without the dense change."""
    before = weight.square().sum(dim=0)
    overlap = ((weight.T @ delta.up).T * delta.down).sum(dim=0)
    energy = ((delta.up.T @ delta.up @ delta.down) * delta.down).sum(dim=0)
    after = (before + 2 * overlap + energy).clamp_min(0)
    product = (before * after).sqrt()
    cosine = torch.where(product > 0, (before + overlap) / product, 0.0)
    return (after.sqrt() - before.sqrt()).abs(), 1 - cosine

"""WIDEN (arXiv:2408.03092): every input column weighed by how far each LoRA moves it."""

from __future__ import annotations

import torch
from torch import Tensor

from merging.linalg.closed_form import LayerProblem, nothing
from merging.linalg.core_space import live_parts
from merging.linalg.delta import Delta

RATIO = 1.0  # the paper's t: columns above t times their LoRA's mean rank count as essential
ESSENTIAL = 1.0  # the paper's s: the weight of an essential column


def widen(problem: LayerProblem) -> Delta:
    """Δ* = Σ_i Δ_i diag(½ (mag_i + dir_i)), weights (in,) in (0, 1].

    mag ranks the columns of W0 by how much LoRA i changes their length, dir by how much it turns
    them; the ranks compete in a softmax over the LoRAs, and essential columns count whole.
    """
    if problem.weight is None:
        raise ValueError("WIDEN needs the base weight")
    parts = live_parts(problem)
    if not parts:
        return nothing(problem)
    moves = [_moves(problem.weight, part.delta) for part in parts]
    lengths, turns = (importance(torch.stack(each)) for each in zip(*moves, strict=True))
    weights = (lengths + turns) / 2
    downs = [part.delta.down * own for part, own in zip(parts, weights, strict=True)]
    return Delta(torch.cat([part.delta.up for part in parts], dim=1), torch.cat(downs))


def importance(moves: Tensor) -> Tensor:
    """Weight of every column for every LoRA, (LoRAs, in), from how far it moves it."""
    ranks = moves.argsort(dim=1, stable=True).argsort(dim=1).to(moves.dtype) / moves.shape[1]
    essential = ranks > RATIO * ranks.mean(dim=1, keepdim=True)
    return torch.where(essential, ESSENTIAL, ranks.softmax(dim=0))


def _moves(weight: Tensor, delta: Delta) -> tuple[Tensor, Tensor]:
    """|‖w + δ‖ − ‖w‖| and 1 − cos(w, w + δ) of every column (in,), without the dense change."""
    before = weight.square().sum(dim=0)
    met = ((weight.T @ delta.up).T * delta.down).sum(dim=0)
    own = ((delta.up.T @ delta.up @ delta.down) * delta.down).sum(dim=0)
    after = (before + 2 * met + own).clamp_min(0)
    product = (before * after).sqrt()
    cosine = torch.where(product > 0, (before + met) / product, 0.0)
    return (after.sqrt() - before.sqrt()).abs(), 1 - cosine

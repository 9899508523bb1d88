"""DO-Merging (decouple and orthogonalise, arXiv:2505.15875), data-free."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from merging.linalg.closed_form import LayerProblem
from merging.linalg.core_space import CoreSpace, merge_in_core_space
from merging.linalg.delta import Delta
from merging.linalg.low_rank import truncate

# The paper does not state its γ. At 1, times the mean squared length of a row, staying near the
# LoRA and being orthogonal to the others count the same.
GAMMA = 1.0
SWEEPS = 30  # at most, of the descent
TOLERANCE = 1e-8  # relative; the descent stops when all factors change by less


def do_merging(problem: LayerProblem) -> Delta:
    """Δ* = mean_i(D_i) · diag(mean_i(m_i)), after the factors were made nearly orthogonal.

    m_i (in,) are the lengths of the columns of Δ̂_i = B̂_i Â_i, and D_i the columns at length 1.
    The merged change is about as large as one LoRA, not as their sum.
    """
    return merge_in_core_space(problem, _merge_decoupled)


def _merge_decoupled(space: CoreSpace) -> Delta:
    projections = [space.project(truncate(lora.delta, "exact")[0]) for lora in space.loras]
    downs = orthogonalise([delta.down for delta in projections])
    ups = orthogonalise([delta.up.T for delta in projections])
    deltas = [space.expand(Delta(up.T, down)) for up, down in zip(ups, downs, strict=True)]
    squares = [(delta.up.T @ delta.up @ delta.down * delta.down).sum(dim=0) for delta in deltas]
    lengths = [square.clamp_min(0).sqrt() for square in squares]
    mean = torch.stack(lengths).mean(dim=0)
    rescaled = [
        delta.down * torch.where(length > 0, mean / length, 0.0)
        for delta, length in zip(deltas, lengths, strict=True)
    ]
    up = torch.cat([delta.up for delta in deltas], dim=1) / len(deltas)
    return Delta(up, torch.cat(rescaled))


def orthogonalise(factors: Sequence[Tensor]) -> list[Tensor]:
    """Â_i (r_i, k) that minimise Σ_{i≠j} ‖Â_i Â_jᵀ‖² + γ τ Σ_i ‖Â_i − A_i‖².

    τ is the mean squared length of a row, so that scaling all A_i scales all Â_i. With the others
    fixed, Â_i has a closed form; the factors are updated in turn until they no longer change.
    """
    weight = GAMMA * torch.cat(list(factors)).square().sum(dim=1).mean()
    eye = torch.eye(factors[0].shape[1], dtype=factors[0].dtype)
    current = list(factors)
    for _ in range(SWEEPS):
        largest_step = 0.0
        for i, factor in enumerate(factors):
            others = sum((f.T @ f for j, f in enumerate(current) if j != i), torch.zeros_like(eye))
            new = torch.linalg.solve(weight * eye + 2 * others, weight * factor.T).T
            step = ((new - current[i]).norm() / factor.norm()).item()
            largest_step = max(largest_step, step)
            current[i] = new
        if largest_step < TOLERANCE:
            break
    return current

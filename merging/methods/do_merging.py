"""DO-Merging (decouple and orthogonalise, arXiv:2505.15875), data-free."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from merging.linalg.closed_form import LayerProblem
from merging.linalg.core_space import CoreSpace, hosted
from merging.linalg.delta import Delta
from merging.linalg.low_rank import compressed

# What the paper uses could not be found. γ = 1, against the mean squared length of a row, treats
# staying near the LoRA and being orthogonal to the others alike.
GAMMA = 1.0
SWEEPS, SETTLED = 30, 1e-8  # of the descent: at most so many, or until factors move less than this


def do_merging(problem: LayerProblem) -> Delta:
    """Δ* = mean_i(D_i) · diag(mean_i(m_i)), after the factors were made nearly orthogonal.

    m_i (in,) are the lengths of the columns of Δ̂_i = B̂_i Â_i, and D_i the columns at length 1.
    About as large as one LoRA, not as their sum.
    """
    return hosted(problem, _decoupled)


def _decoupled(space: CoreSpace) -> Delta:
    parts = [space.inner(compressed(part.delta, "exact")[0]) for part in space.parts]
    downs = orthogonalised([part.down for part in parts])
    ups = orthogonalised([part.up.T for part in parts])
    changes = [space.outer(Delta(up.T, down)) for up, down in zip(ups, downs, strict=True)]
    lengths = [
        (change.up.T @ change.up @ change.down * change.down).sum(dim=0) for change in changes
    ]
    lengths = [square.clamp_min(0).sqrt() for square in lengths]
    mean = torch.stack(lengths).mean(dim=0)
    scaled = [
        change.down * torch.where(own > 0, mean / own, 0.0)
        for change, own in zip(changes, lengths, strict=True)
    ]
    up = torch.cat([change.up for change in changes], dim=1) / len(changes)
    return Delta(up, torch.cat(scaled))


def orthogonalised(factors: Sequence[Tensor]) -> list[Tensor]:
    """Â_i (r_i, k) that minimise Σ_{i≠j} ‖Â_i Â_jᵀ‖² + γ τ Σ_i ‖Â_i − A_i‖².

    τ is the mean squared length of a row, so that scaling all A_i scales all Â_i. Each Â_i has
    a closed form while the others stand still, and they take turns until nothing moves.
    """
    pull = GAMMA * torch.cat(list(factors)).square().sum(dim=1).mean()
    eye = torch.eye(factors[0].shape[1], dtype=factors[0].dtype)
    found = list(factors)
    for _ in range(SWEEPS):
        moved = 0.0
        for i, factor in enumerate(factors):
            others = sum((f.T @ f for j, f in enumerate(found) if j != i), torch.zeros_like(eye))
            new = torch.linalg.solve(pull * eye + 2 * others, pull * factor.T).T
            moved = max(moved, ((new - found[i]).norm() / factor.norm()).item())
            found[i] = new
        if moved < SETTLED:
            break
    return found

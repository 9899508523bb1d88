"""Exact and truncated factors of a change that is already low-rank; no (out, in) matrix is built.

Notation: Δ = U S Vᵀ by QR of both factors and the SVD of the small core (methods of
arXiv:2602.10993, alg. 2). With a metric L (in, in), the error that truncation minimises is
‖(Δ − Δ_k) L‖_F: for L Lᵀ = the Gram matrix of the layer's inputs, the error of its *outputs*
(reduced-rank regression).
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from merging.deltas import Delta

Rank = int | Literal["exact", "auto", "full"]  # "full" is exact where that is not low either

AUTO_ENERGY = 0.995  # share of ‖Δ L‖² that rank "auto" keeps in every layer
NEGLIGIBLE = 1e-12  # singular values below this share of the largest are rounding, not content


def compressed(delta: Delta, rank: Rank, metric: Tensor | None = None) -> tuple[Delta, float]:
    """The best change of the wanted rank, √σ on either side, and the share of energy kept.

    ``metric`` is the lower Cholesky factor L (in, in); None measures plain Frobenius error.
    """
    measured = delta.down if metric is None else delta.down @ metric
    left, sizes, right = _svd(delta.up, measured)
    kept = _kept_rank(sizes, rank)
    energy = sizes.square()
    total = energy.sum().item()
    share = energy[:kept].sum().item() / total if total > 0 else 1.0
    root = sizes[:kept].sqrt()
    down = root[:, None] * right[:kept]
    if metric is not None:
        down = torch.linalg.solve_triangular(metric, down, upper=False, left=False)
    return balanced(Delta(left[:, :kept] * root, down)), share


def balanced(delta: Delta) -> Delta:
    """The same change with both factors of each rank component equally large.

    Half-precision files then neither overflow in one factor nor underflow in the other.
    """
    ups, downs = delta.up.norm(dim=0), delta.down.norm(dim=1)
    alive = (ups > 0) & (downs > 0)
    ratio = torch.where(alive, (downs / ups.clamp_min(1e-300)).sqrt(), torch.ones_like(ups))
    ratio = torch.where(ratio > 0, ratio, torch.ones_like(ratio))
    return Delta(delta.up * ratio, delta.down / ratio[:, None])


def singular_values(up: Tensor, down: Tensor) -> Tensor:
    """Of up @ down, the largest first, without those that are mere rounding: (rank,)."""
    sizes = _svd(up, down)[1]
    return sizes[: _kept_rank(sizes, "exact")]


def _svd(up: Tensor, down: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """U (out, k), S (k), Vᵀ (k, in) of up @ down, k = min(out, rank, in)."""
    q_up, r_up = torch.linalg.qr(up)
    q_down, r_down = torch.linalg.qr(down.T)
    u, s, vh = torch.linalg.svd(r_up @ r_down.T, full_matrices=False)
    return q_up @ u, s, vh @ q_down.T


def _kept_rank(sizes: Tensor, rank: Rank) -> int:
    """How many components to keep: at least one if there is any, never one of mere rounding."""
    if not len(sizes):
        return 0
    real = max(1, int((sizes > NEGLIGIBLE * sizes[0]).sum().item()))
    if rank == "exact" or rank == "full":
        return real
    if rank == "auto":
        energy = sizes.square().cumsum(0)
        return min(real, 1 + int((energy < AUTO_ENERGY * energy[-1]).sum().item()))
    return min(real, rank)

"""Exact and truncated factors of a change that is already low-rank; no (out, in) matrix is built.

Notation: Δ = U D with the factors U (out, r) and D (r, in) that a method returns. Their Gram
matrices are enough for the SVD of Δ: with D Dᵀ = C Cᵀ (Cholesky) and Cᵀ Uᵀ U C = V S² Vᵀ
(eigenvalues),

    Δ = (U C V S⁻¹) S (Vᵀ C⁻¹ D), orthonormal columns on the left and rows on the right,

and all but two products with the wide factors is work on (r, r) matrices. But a Gram matrix squares
the condition number of its factor. Where that costs precision, the SVD is computed by QR of both
factors and the SVD of the small core (methods of arXiv:2602.10993, alg. 2), several times as slow.

With as many components as Δ has rows or columns, factors save nothing: Δ is multiplied out, and the
eigenvectors of its smaller Gram matrix, Δ Δᵀ or Δᵀ Δ, are one side of its SVD.

With a metric L (in, in), D L replaces D in the SVD, and the error that truncation minimises is
‖(Δ − Δ_k) L‖_F: for L Lᵀ = the Gram matrix of the layer's inputs, the error of its *outputs*
(reduced-rank regression).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from merging.linalg.delta import Delta
from merging.options import Rank

AUTO_ENERGY = 0.995  # share of ‖Δ L‖² that rank "auto" keeps in every layer
NEGLIGIBLE = 1e-12  # singular values below this share of the largest are rounding errors
# The precision of float64 Gram matrices. κ(C) bounds how far the right vectors are from orthonormal
# (1e-16 κ² = 1e-6), and so how far a truncation is from the best one. Singular values are the roots
# of eigenvalues; those below VISIBLE times the largest are lost in its rounding error.
MAX_CONDITION = 1e5
VISIBLE = 1e-6


@dataclass(frozen=True)
class Svd:
    """U S Vᵀ, largest first."""

    left: Tensor  # (rows, k)
    sizes: Tensor  # (k,)
    right: Tensor  # (k, columns)

    def truncate(self, rank: Rank) -> tuple[Delta, float]:
        """The best factors of this rank, √σ on either side, and the share of energy it keeps."""
        count = _kept_rank(self.sizes, rank)
        energy = self.sizes.square()
        total = energy.sum().item()
        share = energy[:count].sum().item() / total if total > 0 else 1.0
        root = self.sizes[:count].sqrt()
        return Delta(self.left[:, :count] * root, root[:, None] * self.right[:count]), share


def truncate(delta: Delta, rank: Rank, metric: Tensor | None = None) -> tuple[Delta, float]:
    """The best change of this rank, √σ on either side, and the share of energy it keeps.

    ``metric`` is the lower Cholesky factor L (in, in); None measures plain Frobenius error.
    """
    measured = Delta(delta.up, delta.down if metric is None else delta.down @ metric)
    factor_svd = None if _is_full_rank(delta) else _factor_svd(measured.up, measured.down)
    if factor_svd is not None and _is_precise(factor_svd[0].sizes, rank):
        core_svd, frame = factor_svd
        core, share = core_svd.truncate(rank)
        answer = Delta(delta.up @ (frame.up @ core.up), (core.down @ frame.down) @ delta.down)
    else:
        answer, share = _whole_svd(measured, rank).truncate(rank)
        if metric is not None:
            down = torch.linalg.solve_triangular(metric, answer.down, upper=False, left=False)
            answer = Delta(answer.up, down)
    return (answer if metric is None else balance(answer)), share


def _is_full_rank(delta: Delta) -> bool:
    """Whether Δ itself is no larger than its factors' Gram matrices."""
    return delta.rank >= min(len(delta.up), delta.down.shape[1])


def _whole_svd(delta: Delta, rank: Rank) -> Svd:
    """The SVD of Δ, by Δ's Gram matrix where that is precise enough for the rank."""
    if _is_full_rank(delta):
        svd = _dense_svd(delta.dense())
        if _is_precise(svd.sizes, rank):
            return svd
    return _qr_svd(delta.up, delta.down)


def balance(delta: Delta) -> Delta:
    """The same change with column k of ``up`` and row k of ``down`` equally long.

    Half-precision files then neither overflow in one factor nor underflow in the other.
    """
    ups, downs = delta.up.norm(dim=0), delta.down.norm(dim=1)
    nonzero = (ups > 0) & (downs > 0)
    ratio = torch.where(nonzero, (downs / ups.clamp_min(1e-300)).sqrt(), torch.ones_like(ups))
    ratio = torch.where(ratio > 0, ratio, torch.ones_like(ratio))
    return Delta(delta.up * ratio, delta.down / ratio[:, None])


def singular_values(up: Tensor, down: Tensor) -> Tensor:
    """Of up @ down, the largest first, without rounding errors: (rank,)."""
    sizes = _qr_svd(up, down).sizes
    return sizes[: _kept_rank(sizes, "exact")]


def _factor_svd(up: Tensor, down: Tensor) -> tuple[Svd, Delta] | None:
    """V S⁻¹, S, Vᵀ and the frame (C, C⁻¹) around them, all (r, r), by Gram matrices.

    None where the rows of ``down`` are nearly dependent: a LoRA merged with itself, more components
    than channels.
    """
    ups, downs = up.T @ up, down @ down.T
    # Both factors of a component are made equally long first: a file may split a change between
    # them in any way, which is the main cause of badly conditioned Gram matrices.
    lengths = (ups.diagonal() / downs.diagonal()).pow(0.25)
    ups, downs = ups / lengths / lengths[:, None], downs * lengths * lengths[:, None]
    factor, failed = torch.linalg.cholesky_ex(downs)
    unit = torch.eye(len(factor), dtype=factor.dtype)
    inverse = torch.linalg.solve_triangular(factor, unit, upper=False)
    # "not … <=", so that NaN, which components of size 0 give, counts as badly conditioned.
    if failed.item() or not (factor.norm() * inverse.norm()).item() <= MAX_CONDITION:
        return None
    energies, vectors = torch.linalg.eigh(factor.T @ ups @ factor)
    sizes, vectors = energies.flip(0).clamp_min(0).sqrt(), vectors.flip(1)
    frame = Delta(factor / lengths[:, None], inverse * lengths)
    return Svd(vectors / sizes, sizes, vectors.T), frame


def _is_precise(sizes: Tensor, rank: Rank) -> bool:
    """Whether all components that the rank may keep are precise in Gram matrices."""
    if rank == "auto":
        count = _kept_rank(sizes, rank)
    else:
        count = min(rank, len(sizes)) if isinstance(rank, int) else len(sizes)
    return 0 < count <= int((sizes > VISIBLE * sizes[:1]).sum().item())


def _dense_svd(matrix: Tensor) -> Svd:
    """The SVD of an (out, in) matrix by its Gram matrix; precise for sizes above VISIBLE."""
    if len(matrix) > matrix.shape[1]:
        transposed = _dense_svd(matrix.T)
        return Svd(transposed.right.T, transposed.sizes, transposed.left.T)
    energies, vectors = torch.linalg.eigh(matrix @ matrix.T)
    sizes, left = energies.flip(0).clamp_min(0).sqrt(), vectors.flip(1)
    return Svd(left, sizes, (left / sizes).T @ matrix)


def _qr_svd(up: Tensor, down: Tensor) -> Svd:
    """U (out, k), S (k), Vᵀ (k, in) of up @ down, k = min(out, rank, in)."""
    q_up, r_up = torch.linalg.qr(up)
    q_down, r_down = torch.linalg.qr(down.T)
    u, s, vh = torch.linalg.svd(r_up @ r_down.T, full_matrices=False)
    return Svd(q_up @ u, s, vh @ q_down.T)


def _kept_rank(sizes: Tensor, rank: Rank) -> int:
    """How many components to keep: at least one if there is any, none of rounding errors."""
    if not len(sizes):
        return 0
    real = max(1, int((sizes > NEGLIGIBLE * sizes[0]).sum().item()))
    if rank == "exact" or rank == "full":
        return real
    if rank == "auto":
        energy = sizes.square().cumsum(0)
        return min(real, 1 + int((energy < AUTO_ENERGY * energy[-1]).sum().item()))
    return min(real, rank)

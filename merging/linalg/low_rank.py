"""Exact and truncated factors of a change that is already low-rank; no (out, in) matrix is built.

Notation: Δ = U D with the factors U (out, r) and D (r, in) that a method gives. Their Gram matrices
hold all that the SVD of Δ needs: with D Dᵀ = C Cᵀ (Cholesky) and Cᵀ Uᵀ U C = V S² Vᵀ (eigenvalues),

    Δ = (U C V S⁻¹) S (Vᵀ C⁻¹ D), orthonormal columns on the left and rows on the right,

and all but two products with the wide factors is work on (r, r) matrices. But a Gram matrix squares
the condition of its factor. Where that would be felt, the SVD comes by QR of both factors and the
SVD of the small core (methods of arXiv:2602.10993, alg. 2), several times as slow.

With as many components as Δ has rows or columns, factors save nothing: Δ is multiplied out, and the
eigenvectors of its own smaller Gram matrix, Δ Δᵀ or Δᵀ Δ, are one side of its SVD.

With a metric L (in, in), D L stands for D in the SVD, and the error that truncation minimises is
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
NEGLIGIBLE = 1e-12  # singular values below this share of the largest are rounding, not content
# What Gram matrices in float64 can tell. κ(C) bounds how far from orthonormal the right vectors
# come out (1e-16 κ² = 1e-6), and so how far a truncation is from the best one; and sizes are known
# by their squares, of which those below VISIBLE² of the largest drown in its rounding.
MAX_CONDITION = 1e5
VISIBLE = 1e-6


@dataclass(frozen=True)
class Svd:
    """U S Vᵀ, largest first."""

    left: Tensor  # (rows, k)
    sizes: Tensor  # (k,)
    right: Tensor  # (k, columns)

    def cut(self, rank: Rank) -> tuple[Delta, float]:
        """The best product of the wanted rank, √σ on either side, and the share of energy kept."""
        kept = _kept_rank(self.sizes, rank)
        energy = self.sizes.square()
        total = energy.sum().item()
        share = energy[:kept].sum().item() / total if total > 0 else 1.0
        root = self.sizes[:kept].sqrt()
        return Delta(self.left[:, :kept] * root, root[:, None] * self.right[:kept]), share


def compressed(delta: Delta, rank: Rank, metric: Tensor | None = None) -> tuple[Delta, float]:
    """The best change of the wanted rank, √σ on either side, and the share of energy kept.

    ``metric`` is the lower Cholesky factor L (in, in); None measures plain Frobenius error.
    """
    measured = Delta(delta.up, delta.down if metric is None else delta.down @ metric)
    inner = None if _saves_nothing(delta) else _inner_svd(measured.up, measured.down)
    if inner is not None and _told(inner[0].sizes, rank):
        core, frame = inner
        cut, share = core.cut(rank)
        answer = Delta(delta.up @ (frame.up @ cut.up), (cut.down @ frame.down) @ delta.down)
    else:
        answer, share = _outer_svd(measured, rank).cut(rank)
        if metric is not None:
            down = torch.linalg.solve_triangular(metric, answer.down, upper=False, left=False)
            answer = Delta(answer.up, down)
    return (answer if metric is None else balanced(answer)), share


def _saves_nothing(delta: Delta) -> bool:
    """Whether Δ itself is no larger than its factors' Gram matrices."""
    return delta.rank >= min(len(delta.up), delta.down.shape[1])


def _outer_svd(delta: Delta, rank: Rank) -> Svd:
    """The SVD of Δ as far as the rank wants it, by Δ's Gram matrix where that tells enough."""
    if _saves_nothing(delta):
        svd = _dense_svd(delta.dense())
        if _told(svd.sizes, rank):
            return svd
    return _svd(delta.up, delta.down)


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
    sizes = _svd(up, down).sizes
    return sizes[: _kept_rank(sizes, "exact")]


def _inner_svd(up: Tensor, down: Tensor) -> tuple[Svd, Delta] | None:
    """V S⁻¹, S, Vᵀ and the frame (C, C⁻¹) around them, all (r, r), by Gram matrices.

    None where the rows of ``down`` are too nearly dependent for that: a LoRA beside itself, more
    components than channels.
    """
    ups, downs = up.T @ up, down @ down.T
    # Both factors of a component are made equally long first: how a file splits a change between
    # them says nothing, and conditions the Gram matrices worst.
    lengths = (ups.diagonal() / downs.diagonal()).pow(0.25)
    ups, downs = ups / lengths / lengths[:, None], downs * lengths * lengths[:, None]
    factor, failed = torch.linalg.cholesky_ex(downs)
    unit = torch.eye(len(factor), dtype=factor.dtype)
    inverse = torch.linalg.solve_triangular(factor, unit, upper=False)
    # Written so that NaN, which components of nothing leave here, is no sound condition either.
    if failed.item() or not (factor.norm() * inverse.norm()).item() <= MAX_CONDITION:
        return None
    energies, vectors = torch.linalg.eigh(factor.T @ ups @ factor)
    sizes, vectors = energies.flip(0).clamp_min(0).sqrt(), vectors.flip(1)
    frame = Delta(factor / lengths[:, None], inverse * lengths)
    return Svd(vectors / sizes, sizes, vectors.T), frame


def _told(sizes: Tensor, rank: Rank) -> bool:
    """Whether all components that the rank may keep are visible in Gram matrices."""
    if rank == "auto":
        wanted = _kept_rank(sizes, rank)
    else:
        wanted = min(rank, len(sizes)) if isinstance(rank, int) else len(sizes)
    return 0 < wanted <= int((sizes > VISIBLE * sizes[:1]).sum().item())


def _dense_svd(matrix: Tensor) -> Svd:
    """The same of an (out, in) matrix, k = min(out, in); sound as far as sizes are visible."""
    if len(matrix) > matrix.shape[1]:
        turned = _dense_svd(matrix.T)
        return Svd(turned.right.T, turned.sizes, turned.left.T)
    energies, vectors = torch.linalg.eigh(matrix @ matrix.T)
    sizes, left = energies.flip(0).clamp_min(0).sqrt(), vectors.flip(1)
    return Svd(left, sizes, (left / sizes).T @ matrix)


def _svd(up: Tensor, down: Tensor) -> Svd:
    """U (out, k), S (k), Vᵀ (k, in) of up @ down, k = min(out, rank, in)."""
    q_up, r_up = torch.linalg.qr(up)
    q_down, r_down = torch.linalg.qr(down.T)
    u, s, vh = torch.linalg.svd(r_up @ r_down.T, full_matrices=False)
    return Svd(q_up @ u, s, vh @ q_down.T)


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

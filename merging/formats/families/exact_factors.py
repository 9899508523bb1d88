"""Factors of the smallest rank that hold a dense change exactly.

Families other than plain LoRA do not store Δ as one product. It is computed in float64 and then
truncated where nothing is lost: to the leading singular vectors of the shorter side, from its Gram
matrix, without a division by singular values.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from merging.adapter import LoraLayer

if TYPE_CHECKING:
    from torch import Tensor

# Share of ‖Δ‖ that truncation may lose: float32, the dtype of factors, rounds to 6e-8, and the Gram
# matrix of a float64 change resolves singular values down to about 1e-7 of the largest.
TOLERANCE = 5e-7


def factorise_matrix(change: Tensor) -> LoraLayer:
    """Factors of Δ (out, in) with the smallest rank; one of them is orthonormal."""
    import torch

    if change.shape[0] > change.shape[1]:
        transposed = factorise_matrix(change.T)
        return LoraLayer(transposed.down.T, transposed.up.T, transposed.alpha)
    if not change.any():
        return LoraLayer(change[:, :1], change[:1], alpha=1.0)
    energy, directions = torch.linalg.eigh(change @ change.T)  # ascending
    lost = energy.clamp_min(0).cumsum(0)
    count = int((lost <= TOLERANCE**2 * lost[-1]).sum().item())  # of negligible directions
    basis = directions[:, min(count, len(energy) - 1) :]
    return LoraLayer(basis, basis.T @ change, alpha=float(basis.shape[1]))


def factorise_product(up: Tensor, down: Tensor) -> LoraLayer:
    """`factorise_matrix` of up (out, k) @ down (k, in), without the dense matrix if k is small."""
    import torch

    if up.shape[1] >= min(up.shape[0], down.shape[1]):
        return factorise_matrix(up @ down)
    basis, inner = torch.linalg.qr(up)
    core = factorise_matrix(inner @ down)
    return LoraLayer(basis @ core.up, core.down, core.alpha)

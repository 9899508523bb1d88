"""An exact change to the fewest factors that hold it.

Families other than plain LoRA write changes that are not given as one product. They are built in
float64 and then cut where nothing is lost: to the leading singular directions of the shorter side,
found from its Gram matrix, without the singular values ever being divided by.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from merging.adapter import LoraLayer

if TYPE_CHECKING:
    from torch import Tensor

# Share of ‖Δ‖ that the cut may cost: float32, in which factors are kept, rounds to 6e-8, and the
# Gram matrix of a float64 change tells directions apart down to about 1e-7.
TOLERANCE = 5e-7


def of_matrix(change: Tensor) -> LoraLayer:
    """Δ (out, in) as the product of an orthonormal and a plain factor, of the smallest rank."""
    import torch

    if change.shape[0] > change.shape[1]:
        turned = of_matrix(change.T)
        return LoraLayer(turned.down.T, turned.up.T, turned.alpha)
    energy, directions = torch.linalg.eigh(change @ change.T)  # ascending
    lost = energy.clamp_min(0).cumsum(0)
    cut = int((lost <= TOLERANCE**2 * lost[-1]).sum().item())
    kept = directions[:, min(cut, len(energy) - 1) :]
    return LoraLayer(kept, kept.T @ change, alpha=float(kept.shape[1]))


def of_product(up: Tensor, down: Tensor) -> LoraLayer:
    """The same for Δ = up (out, k) @ down (k, in), without the matrix where k is small."""
    import torch

    if up.shape[1] >= min(up.shape[0], down.shape[1]):
        return of_matrix(up @ down)
    basis, inner = torch.linalg.qr(up)
    core = of_matrix(inner @ down)
    return LoraLayer(basis @ core.up, core.down, core.alpha)

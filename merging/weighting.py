"""How much each row set counts: ω_c, which the user chose, times λ_c, which balances energies.

λ_c with W_c = W0 + Δ_c, Δ_c = Σ_i w̄_ci Δ_i the mean teacher of the set (arXiv:2411.15231 leaves
open which weight is meant; methods differ by large factors where one LoRA is much stronger):

    merged    ‖W_c‖² / ‖X_c W_cᵀ‖²    the authors' code: balances the energy of the inputs
    delta     ‖Δ_c‖² / ‖X_c Δ_cᵀ‖²    the formula read with W_i as the LoRA's change
    relative  1 / ‖X_c Δ_cᵀ‖²         every concept's change counts the same, strong or weak
    uniform   1                       RegMean

A set whose teacher changes nothing here (preserved rows, a LoRA without the layer) has no Δ_c of
its own; ``delta`` and ``relative`` then take the mean of the LoRAs, to weigh it like the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from merging.deltas import Delta, inner, stacked
from merging.gram import RowStatistics

Weighting = Literal["merged", "delta", "relative", "uniform"]


def energy_weights(
    weighting: Weighting,
    weight: Tensor | None,
    deltas: Sequence[Delta | None],
    rows: Sequence[RowStatistics],
) -> list[float]:
    """ω_c λ_c of every row set; 0 for a set whose outputs vanish.

    ``weight`` is W0 (out, in), needed for ``merged`` alone.
    """
    if not rows or weighting == "uniform":
        return [each.omega for each in rows]
    if weighting == "merged":
        return [each.omega * _merged_weight(weight, deltas, each) for each in rows]
    changes = [_own_change(deltas, each) or _mean_change(deltas) for each in rows]
    sizes = [inner(change, None, change) if weighting == "delta" else 1.0 for change in changes]
    energies = [
        inner(change, each.teacher_gram, change) for change, each in zip(changes, rows, strict=True)
    ]
    return [each.omega * _share(*pair) for each, *pair in zip(rows, sizes, energies, strict=True)]


def _merged_weight(
    weight: Tensor | None, deltas: Sequence[Delta | None], rows: RowStatistics
) -> float:
    """λ_c of W0 + Δ_c."""
    if weight is None:
        raise ValueError("the weighting 'merged' needs the base weight")
    size, energy = weight.square().sum().item(), _base_energy(weight, rows)
    change = _own_change(deltas, rows)
    if change is not None:
        seen = change.up.T @ weight  # (rank, in)
        size += 2 * (seen * change.down).sum().item() + inner(change, None, change)
        energy += 2 * (seen * (change.down @ rows.teacher_gram)).sum().item()
        energy += inner(change, rows.teacher_gram, change)
    return _share(size, energy)


def _base_energy(weight: Tensor, rows: RowStatistics) -> float:
    """‖X_c W0ᵀ‖²; multiplying it out is the dearest step of a merge where nobody measured it."""
    if rows.base_energy is not None:
        return rows.base_energy
    return ((weight @ rows.teacher_gram) * weight).sum().item()


def _own_change(deltas: Sequence[Delta | None], rows: RowStatistics) -> Delta | None:
    """Δ_c, None where the set's teacher leaves the layer alone."""
    active = [
        Delta(share * delta.up, delta.down)
        for delta, share in zip(deltas, rows.mean_weights, strict=True)
        if delta is not None and share
    ]
    change = stacked(active) if active else None
    return change if change is not None and inner(change, None, change) > 0 else None


def _mean_change(deltas: Sequence[Delta | None]) -> Delta:
    present = [delta for delta in deltas if delta is not None]
    return stacked(present, [1 / len(present)] * len(present))


def _share(size: float, energy: float) -> float:
    return size / energy if energy > torch.finfo(torch.float64).tiny else 0.0

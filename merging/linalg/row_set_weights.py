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

import torch
from torch import Tensor

from merging.linalg.delta import Delta, inner, stacked
from merging.linalg.gram import Moments
from merging.linalg.row_statistics import RowStatistics
from merging.options import Weighting


def energy_weights(
    weighting: Weighting,
    weight: Tensor | None,
    deltas: Sequence[Delta | None],
    sets: Sequence[tuple[RowStatistics, Moments]],
) -> list[float]:
    """ω_c λ_c of every row set; 0 for a set whose outputs vanish.

    ``weight`` is W0 (out, in), needed for ``merged`` alone.
    """
    if not sets or weighting == "uniform":
        return [rows.omega for rows, _ in sets]
    if weighting == "merged":
        return [rows.omega * _merged_weight(weight, deltas, rows, m) for rows, m in sets]
    shares = []
    for rows, moments in sets:
        change = _own_change(deltas, rows) or _mean_change(deltas)
        size = inner(change, None, change) if weighting == "delta" else 1.0
        seen = Delta(change.up, moments.seen(change.down))
        shares.append(rows.omega * _share(size, inner(seen, None, change)))
    return shares


def _merged_weight(
    weight: Tensor | None, deltas: Sequence[Delta | None], rows: RowStatistics, moments: Moments
) -> float:
    """λ_c of W0 + Δ_c."""
    if weight is None:
        raise ValueError("the weighting 'merged' needs the base weight")
    size, energy = weight.norm().item() ** 2, _base_energy(weight, rows, moments)
    change = _own_change(deltas, rows)
    if change is not None:
        given = change.up.T @ weight  # (rank, in)
        size += 2 * (given * change.down).sum().item() + inner(change, None, change)
        seen = Delta(change.up, moments.seen(change.down))
        energy += 2 * (given * seen.down).sum().item() + inner(seen, None, change)
    return _share(size, energy)


def _base_energy(weight: Tensor, rows: RowStatistics, moments: Moments) -> float:
    """‖X_c W0ᵀ‖²; multiplying it out is the dearest step of a merge where nobody measured it."""
    if rows.base_energy is not None:
        return rows.base_energy
    return (moments.seen(weight) * weight).sum().item()


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

"""How much each row set counts: ω_c, which the user chose, times λ_c, which balances energies.

λ_c with W_c = W0 + Δ_c, Δ_c = Σ_i w̄_ci Δ_i the mean teacher of the set (arXiv:2411.15231 leaves
open which weight is meant; the choices differ by large factors where one LoRA is much stronger):

    merged    ‖W_c‖² / ‖X_c W_cᵀ‖²    the authors' code: balances the energy of the inputs
    delta     ‖Δ_c‖² / ‖X_c Δ_cᵀ‖²    the formula with the LoRA's change as W_i
    relative  1 / ‖X_c Δ_cᵀ‖²         every concept's change counts the same, strong or weak
    uniform   1                       RegMean

Where Δ_c = 0 (preserved rows, a LoRA without the layer), ``delta`` and ``relative`` take the mean
of the LoRAs instead, so that the set gets a weight like the others.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from merging.linalg.delta import Delta, inner_product, sum_deltas
from merging.linalg.gram import Gram
from merging.linalg.row_statistics import RowStatistics
from merging.options import Weighting


def energy_weights(
    weighting: Weighting,
    weight: Tensor | None,
    deltas: Sequence[Delta | None],
    sets: Sequence[tuple[RowStatistics, Gram]],
) -> list[float]:
    """ω_c λ_c of every row set; 0 for a set whose outputs vanish.

    ``weight`` is W0 (out, in), needed for ``merged`` alone.
    """
    if not sets or weighting == "uniform":
        return [rows.omega for rows, _ in sets]
    if weighting == "merged":
        return [rows.omega * _merged_weight(weight, deltas, rows, m) for rows, m in sets]
    shares = []
    for rows, gram in sets:
        teacher = _teacher_delta(deltas, rows) or _mean_delta(deltas)
        size = inner_product(teacher, None, teacher) if weighting == "delta" else 1.0
        product = Delta(teacher.up, gram.times_teacher(teacher.down))
        shares.append(rows.omega * _share(size, inner_product(product, None, teacher)))
    return shares


def _merged_weight(
    weight: Tensor | None, deltas: Sequence[Delta | None], rows: RowStatistics, gram: Gram
) -> float:
    """λ_c of W0 + Δ_c."""
    if weight is None:
        raise ValueError("the weighting 'merged' needs the base weight")
    size, energy = weight.norm().item() ** 2, _base_energy(weight, rows, gram)
    teacher = _teacher_delta(deltas, rows)
    if teacher is not None:
        projection = teacher.up.T @ weight  # (rank, in)
        size += 2 * (projection * teacher.down).sum().item() + inner_product(teacher, None, teacher)
        product = Delta(teacher.up, gram.times_teacher(teacher.down))
        energy += 2 * (projection * product.down).sum().item() + inner_product(
            product, None, teacher
        )
    return _share(size, energy)


def _base_energy(weight: Tensor, rows: RowStatistics, gram: Gram) -> float:
    """‖X_c W0ᵀ‖²: measured by the forward pass, else computed, the dearest step of a merge."""
    if rows.base_energy is not None:
        return rows.base_energy
    return (gram.times_teacher(weight) * weight).sum().item()


def _teacher_delta(deltas: Sequence[Delta | None], rows: RowStatistics) -> Delta | None:
    """Δ_c, None where it is 0."""
    active = [
        Delta(share * delta.up, delta.down)
        for delta, share in zip(deltas, rows.mean_weights, strict=True)
        if delta is not None and share
    ]
    teacher = sum_deltas(active) if active else None
    return teacher if teacher is not None and inner_product(teacher, None, teacher) > 0 else None


def _mean_delta(deltas: Sequence[Delta | None]) -> Delta:
    present = [delta for delta in deltas if delta is not None]
    return sum_deltas(present, [1 / len(present)] * len(present))


def _share(size: float, energy: float) -> float:
    return size / energy if energy > torch.finfo(torch.float64).tiny else 0.0

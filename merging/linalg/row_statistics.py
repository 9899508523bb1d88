"""Statistics of a layer's inputs, collected row by row for the solver.

A row set is a set of inputs with a weight per LoRA and row. The paper's sets have weight 1 for one
LoRA and 0 for the others; preserved rows have 0 for all. merging/linalg/gram.py has the notation.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from merging.linalg.gram import Gram, RowGram, SummedGram

HALF_PRECISION = (torch.float16, torch.bfloat16)
BLOCK = 256  # half-precision rows summed in float32 at a time


@dataclass(eq=False)
class RowStatistics:
    """One row set of one layer input, while its rows come in and afterwards.

    ``constant`` holds the weights of a row if they are the same in all rows; ``inputs_equal`` sets
    have X̃ = X. Both save products. Rows are kept while they are fewer than channels, and multiplied
    to (in, in) matrices once they are more.
    """

    name: str = ""  # of the row set, for the report
    omega: float = 1.0  # ω_c: how much the set counts beside the others
    constant: tuple[float, ...] | None = None
    inputs_equal: bool = False
    residual: bool = False  # whether the solver needs K_c
    rows: int = 0
    width: int = 0  # channels of the input
    weight_sum: Tensor = field(default_factory=lambda: torch.zeros(0))  # Σ_rows w_ci (LoRAs,)
    energy: float = 0.0  # ‖X_c‖²
    drift_energy: float = 0.0  # ‖X̃_c − X_c‖²
    base_energy: float | None = None  # ‖X_c W0ᵀ‖² of the current layer, if the pass measured it
    # (α₂, row sets that begin with this one) → the system that layers with this input share
    systems: dict[tuple[float, tuple[RowStatistics, ...]], Any] = field(default_factory=dict)
    _pending: list[tuple[Tensor, Tensor, Tensor]] = field(default_factory=list)
    _gram: Gram | None = None
    _with_teacher_inputs: RowStatistics | None = None

    def add(self, teacher: Tensor, merged: Tensor, weights: Tensor | None = None) -> None:
        """Add rows: teacher and merged (rows, in), paired; weights (rows, LoRAs).

        ``weights`` may be left out where they are constant. The tensors are not copied: they must
        not be written to afterwards.
        """
        if weights is None:
            if self.constant is None:
                raise ValueError("rows without weights in a set whose weights are not constant")
            weights = torch.tensor([self.constant], device=teacher.device).expand(len(teacher), -1)
        self.rows += len(teacher)
        self.width = teacher.shape[1]
        counts = weights.sum(dim=0, dtype=torch.float64).cpu()
        self.weight_sum = self.weight_sum + counts if len(self.weight_sum) else counts
        self.energy += _energy(teacher)
        self.drift_energy += (
            0.0 if self.inputs_equal else _energy(_as_float32(merged) - _as_float32(teacher))
        )
        self._pending.append((teacher, teacher if self.inputs_equal else merged, weights))
        if sum(len(rows) for rows, *_ in self._pending) > self.width:
            self.summed_gram()

    @property
    def keeps_rows(self) -> bool:
        """Whether the rows are kept: they are fewer than channels so far."""
        return not isinstance(self._gram, SummedGram)

    @property
    def mean_weights(self) -> list[float]:
        """w̄_ci: this set's weight of each LoRA, averaged over its rows."""
        return (self.weight_sum / self.rows).tolist()

    @property
    def active(self) -> list[int]:
        """The LoRAs that have any weight in this set."""
        return self.weight_sum.nonzero().flatten().tolist()

    def drift(self) -> float:
        """‖X̃ − X‖ / ‖X‖: how far the merged model's inputs have moved from the teacher's."""
        return (self.drift_energy / self.energy) ** 0.5 if self.energy > 0 else 0.0

    def row_gram(self) -> RowGram:
        """The Gram object of the kept rows, when all are in."""
        if not isinstance(self._gram, RowGram):
            teacher, merged, weights = map(_concatenate, zip(*self._pending, strict=True))
            merged = teacher if self.inputs_equal else merged
            teacher_kernel = teacher @ teacher.T
            kernel = teacher_kernel if self.inputs_equal else merged @ merged.T
            self._gram = RowGram(teacher, merged, weights, kernel, teacher_kernel)
        return self._gram

    def summed_gram(self) -> SummedGram:
        """The products of all rows so far; kept rows are multiplied out."""
        gram = self._gram if isinstance(self._gram, SummedGram) else self._empty_gram()
        self._gram = gram
        if self._pending:
            teacher, merged, weights = (
                torch.cat(part) for part in zip(*self._pending, strict=True)
            )
            self._pending.clear()
            self._multiply(gram, teacher, teacher if self.inputs_equal else merged, weights)
        return gram

    def with_gram(self, gram: Gram) -> RowStatistics:
        """The same set with another Gram object."""
        return replace(self, _gram=gram, _pending=[], systems={}, _with_teacher_inputs=None)

    def with_teacher_inputs(self) -> RowStatistics:
        """The same set with X̃ = X; one object for all layers that share the input."""
        if self._with_teacher_inputs is None:
            gram = self.row_gram() if self.keeps_rows else self.summed_gram()
            self._with_teacher_inputs = self.with_gram(gram.with_teacher_inputs())
        return self._with_teacher_inputs

    @property
    def _needs_plain(self) -> bool:
        return self.residual or any(self.constant or ())

    def _empty_gram(self) -> SummedGram:
        teacher = _zeros(self.width)
        if self.inputs_equal:
            return SummedGram(teacher, teacher, teacher, self.constant)
        plain = _zeros(self.width if self._needs_plain else 0)
        return SummedGram(_zeros(self.width), teacher, plain, self.constant)

    def _multiply(self, gram: SummedGram, x: Tensor, x_merged: Tensor, weights: Tensor) -> None:
        """Add the products of more rows."""
        dtype = torch.float32 if x.dtype in HALF_PRECISION else torch.float64
        x, x_merged, weights = x.to(dtype), x_merged.to(dtype), weights.to(dtype)
        _add_product(gram.teacher, x, x)
        if not self.inputs_equal:
            _add_product(gram.gram, x_merged, x_merged)
            if self._needs_plain:
                _add_product(gram.plain, x, x_merged)
        if self.constant is None:
            self._multiply_weighted(gram, x, x_merged, weights)

    def _multiply_weighted(self, gram: SummedGram, x: Tensor, x_merged: Tensor, w: Tensor) -> None:
        """C_ci and H_cij, for the LoRAs with any weight so far."""
        for i in self.active:
            weighted = w[:, i : i + 1] * x
            _add_product(gram.cross.setdefault(i, _zeros(self.width)), weighted, x_merged)
            for j in (j for j in self.active if j >= i):
                pair = gram.pairs.setdefault((i, j), _zeros(self.width))
                _add_product(pair, weighted, w[:, j : j + 1] * x)


def _zeros(width: int) -> Tensor:
    return torch.zeros(width, width, dtype=torch.float64)


def _concatenate(parts: tuple[Tensor, ...]) -> Tensor:
    return torch.cat(parts).to("cpu", torch.float64)


def _as_float32(rows: Tensor) -> Tensor:
    """Half-precision rows as float32, so that differences and squares do not overflow."""
    return rows.float() if rows.dtype in HALF_PRECISION else rows


def _energy(rows: Tensor) -> float:
    return torch.linalg.vector_norm(_as_float32(rows), dtype=torch.float64).item() ** 2


def _add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    """total += leftᵀ right, multiplied on the device of the rows; float32 in blocks of rows.

    float32 rows arrive here as float64: CLIP's outlier channels make float32 Gram matrices useless
    for solving. Half-precision rows arrive as float32, which holds the products of their 11-bit
    significands exactly.
    """
    if left.dtype == torch.float64 and left.device == total.device:
        total.addmm_(left.T, right)
        return
    size = len(left) if left.dtype == torch.float64 else BLOCK
    for left_block, right_block in zip(left.split(size), right.split(size), strict=True):
        total += (left_block.T @ right_block).cpu()

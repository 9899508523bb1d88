"""What a solver must know of a layer's inputs: the rows while they are few, else their products.

A row set is a set of inputs with a weight per LoRA and row. The paper's sets have weight 1 for
their own LoRA and 0 for the others; preserve rows have 0 for all. merging/linalg/gram.py has the
notation, and answers the solver's questions.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from merging.linalg.gram import FewRows, Grams, Moments

HALVES = (torch.float16, torch.bfloat16)
BLOCK = 256  # half-precision rows summed in float32 at a time


@dataclass(eq=False)
class RowStatistics:
    """One row set of one layer input, while its rows come in and afterwards.

    ``constant`` are the weights of all rows, where they are all the same; ``still`` sets have
    X̃ = X. Either saves products. Rows are kept until there are as many as channels; sets with
    fewer never need an (in, in) matrix of their own.
    """

    name: str = ""  # of the row set, for the report
    omega: float = 1.0  # ω_c: how much the set counts beside the others
    constant: tuple[float, ...] | None = None
    still: bool = False
    residual: bool = False  # whether K_c is wanted
    rows: int = 0
    width: int = 0  # channels of the input
    weight_sum: Tensor = field(default_factory=lambda: torch.zeros(0))  # Σ_rows w_ci (LoRAs,)
    energy: float = 0.0  # ‖X_c‖²
    moved: float = 0.0  # ‖X̃_c − X_c‖²
    base_energy: float | None = None  # ‖X_c W0ᵀ‖² of the layer at hand, if its pass told it
    # (α₂, row sets that begin with this one) → the system that layers with this input share
    systems: dict[tuple[float, tuple[RowStatistics, ...]], Any] = field(default_factory=dict)
    _waiting: list[tuple[Tensor, Tensor, Tensor]] = field(default_factory=list)
    _moments: Moments | None = None
    _unmoved: RowStatistics | None = None

    def add(self, teacher: Tensor, merged: Tensor, weights: Tensor | None = None) -> None:
        """Count more rows: teacher and merged (rows, in), paired; weights (rows, LoRAs).

        ``weights`` may be left out where they are constant. The rows are kept as they are: hand
        over copies of what will be written to.
        """
        if weights is None:
            if self.constant is None:
                raise ValueError("rows without weights in a set that has none of its own")
            weights = torch.tensor([self.constant], device=teacher.device).expand(len(teacher), -1)
        self.rows += len(teacher)
        self.width = teacher.shape[1]
        counts = weights.sum(dim=0, dtype=torch.float64).cpu()
        self.weight_sum = self.weight_sum + counts if len(self.weight_sum) else counts
        self.energy += _energy(teacher)
        self.moved += 0.0 if self.still else _energy(_wide(merged) - _wide(teacher))
        self._waiting.append((teacher, teacher if self.still else merged, weights))
        if sum(len(rows) for rows, *_ in self._waiting) > self.width:
            self.grams()

    @property
    def few(self) -> bool:
        """Whether the rows themselves are still there."""
        return not isinstance(self._moments, Grams)

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
        return (self.moved / self.energy) ** 0.5 if self.energy > 0 else 0.0

    def few_rows(self) -> FewRows:
        """The rows, all of them in; only while they are ``few``."""
        if not isinstance(self._moments, FewRows):
            teacher, merged, weights = (_joined(part) for part in zip(*self._waiting, strict=True))
            merged = teacher if self.still else merged
            teacher_kernel = teacher @ teacher.T
            kernel = teacher_kernel if self.still else merged @ merged.T
            self._moments = FewRows(teacher, merged, weights, kernel, teacher_kernel)
        return self._moments

    def grams(self) -> Grams:
        """The products of all rows so far; whatever waited is multiplied out."""
        grams = self._moments if isinstance(self._moments, Grams) else self._no_grams()
        self._moments = grams
        if self._waiting:
            teacher, merged, weights = (
                torch.cat(part) for part in zip(*self._waiting, strict=True)
            )
            self._waiting.clear()
            self._multiply(grams, teacher, teacher if self.still else merged, weights)
        return grams

    def taking(self, moments: Moments) -> RowStatistics:
        """The same set with other moments."""
        return replace(self, _moments=moments, _waiting=[], systems={}, _unmoved=None)

    def unmoved(self) -> RowStatistics:
        """The same set, one and the same for all layers, where the merged inputs are X̃ = X."""
        if self._unmoved is None:
            moments = self.few_rows() if self.few else self.grams()
            self._unmoved = self.taking(moments.unmoved())
        return self._unmoved

    @property
    def _plain_wanted(self) -> bool:
        return self.residual or any(self.constant or ())

    def _no_grams(self) -> Grams:
        teacher = _zeros(self.width)
        if self.still:
            return Grams(teacher, teacher, teacher, self.constant)
        plain = _zeros(self.width if self._plain_wanted else 0)
        return Grams(_zeros(self.width), teacher, plain, self.constant)

    def _multiply(self, grams: Grams, x: Tensor, x_merged: Tensor, weights: Tensor) -> None:
        """Add the products of more rows."""
        kind = torch.float32 if x.dtype in HALVES else torch.float64
        x, x_merged, weights = x.to(kind), x_merged.to(kind), weights.to(kind)
        _add_product(grams.teacher, x, x)
        if not self.still:
            _add_product(grams.gram, x_merged, x_merged)
            if self._plain_wanted:
                _add_product(grams.plain, x, x_merged)
        if self.constant is None:
            self._multiply_weighted(grams, x, x_merged, weights)

    def _multiply_weighted(self, grams: Grams, x: Tensor, x_merged: Tensor, w: Tensor) -> None:
        """C_ci and H_cij, for the LoRAs with any weight so far."""
        for i in self.active:
            weighted = w[:, i : i + 1] * x
            _add_product(grams.cross.setdefault(i, _zeros(self.width)), weighted, x_merged)
            for j in (j for j in self.active if j >= i):
                pair = grams.pairs.setdefault((i, j), _zeros(self.width))
                _add_product(pair, weighted, w[:, j : j + 1] * x)


def _zeros(width: int) -> Tensor:
    return torch.zeros(width, width, dtype=torch.float64)


def _joined(parts: tuple[Tensor, ...]) -> Tensor:
    return torch.cat(parts).to("cpu", torch.float64)


def _wide(rows: Tensor) -> Tensor:
    """Half-precision rows as float32, where differences and squares do not overflow."""
    return rows.float() if rows.dtype in HALVES else rows


def _energy(rows: Tensor) -> float:
    return torch.linalg.vector_norm(_wide(rows), dtype=torch.float64).item() ** 2


def _add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    """total += leftᵀ right, where the rows are; float32 factors are summed block by block.

    float32 rows come here as float64: CLIP's outlier channels make plain float32 Gram matrices
    useless for solving. Half-precision rows carry 11 bits, whose products float32 holds exactly.
    """
    if left.dtype == torch.float64 and left.device == total.device:
        total.addmm_(left.T, right)
        return
    size = len(left) if left.dtype == torch.float64 else BLOCK
    for one, other in zip(left.split(size), right.split(size), strict=True):
        total += (one.T @ other).cpu()

"""What a solver needs to know of a layer's inputs: Gram matrices, kept in float64.

A row set is a set of inputs with a weight per LoRA and row. The paper's sets have weight 1 for
their own LoRA and 0 for the others; preserve rows have 0 for all. Notation (c counts row sets,
i and j count LoRAs):

    X_c  (rows, in)  inputs of the layer in the teacher: every LoRA at its weight
    X̃_c  (rows, in)  inputs of the same layer for the same rows in the merged model
    w_ci (rows,)     weight of LoRA i at each row
    C_ci  = (w_ci ⊙ X_c)ᵀ X̃_c          G_c = X̃_cᵀ X̃_c
    H_cij = (w_ci ⊙ X_c)ᵀ (w_cj ⊙ X_c)   H_c = X_cᵀ X_c      all (in, in)
    K_c   = X_cᵀ X̃_c                     only where the solver asks for the base weight's residual
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

HALVES = (torch.float16, torch.bfloat16)
BLOCK = 256  # rows summed in float32 at a time


@dataclass
class RowStatistics:
    """Running sums over one row set of one layer input (the letters are explained above)."""

    name: str = ""  # of the row set, for the report
    omega: float = 1.0  # ω_c: how much the set counts beside the others
    residual: bool = False  # whether K_c is wanted
    rows: int = 0
    weight_sum: Tensor = field(default_factory=lambda: torch.zeros(0))  # Σ_rows w_ci (LoRAs,)
    gram: Tensor = field(default_factory=lambda: torch.zeros(0))  # G_c
    teacher_gram: Tensor = field(default_factory=lambda: torch.zeros(0))  # H_c
    plain_cross: Tensor = field(default_factory=lambda: torch.zeros(0))  # K_c
    cross: dict[int, Tensor] = field(default_factory=dict)  # i → C_ci, where w_ci is not all 0
    teacher_pairs: dict[tuple[int, int], Tensor] = field(default_factory=dict)  # i ≤ j → H_cij
    moved: float = 0.0  # ‖X̃_c − X_c‖²
    base_energy: float | None = None  # ‖X_c W0ᵀ‖² of one layer, where a forward pass told it

    def add(self, teacher: Tensor, merged: Tensor, weights: Tensor) -> None:
        """Count more rows: teacher and merged (rows, in), paired; weights (rows, LoRAs).

        float32 rows are multiplied in float64: CLIP's outlier channels make plain float32 Gram
        matrices useless for solving. Half-precision rows carry 11 bits, whose products float32
        holds exactly; they are summed in blocks. Products run where the rows are, sums live on
        the CPU.
        """
        kind = torch.float32 if teacher.dtype in HALVES else torch.float64
        x, x_merged, weights = teacher.to(kind), merged.to(kind), weights.to(kind)
        if self.rows == 0:
            self._start(x.shape[1], weights.shape[1])
        self.rows += x.shape[0]
        self.weight_sum = self.weight_sum + weights.sum(dim=0).cpu().double()
        self.teacher_gram = self.teacher_gram + _product(x, x)
        self.gram = self.gram + _product(x_merged, x_merged)
        self.moved += (x_merged - x).square().sum().item()
        if self.residual:
            self.plain_cross = self.plain_cross + _product(x, x_merged)
        self._add_weighted(x, x_merged, weights)

    def _start(self, width: int, count: int) -> None:
        zeros = torch.zeros(width, width, dtype=torch.float64)
        self.weight_sum = torch.zeros(count, dtype=torch.float64)
        self.gram = self.teacher_gram = self.plain_cross = zeros

    def _add_weighted(self, x: Tensor, x_merged: Tensor, weights: Tensor) -> None:
        """C_ci and H_cij, for the LoRAs with any weight in these rows."""
        active = [i for i in range(weights.shape[1]) if bool(weights[:, i].any())]
        weighted = {i: weights[:, i : i + 1] * x for i in active}
        for i in active:
            _accumulate(self.cross, i, _product(weighted[i], x_merged))
            for j in (j for j in active if j >= i):
                _accumulate(self.teacher_pairs, (i, j), _product(weighted[i], weighted[j]))

    @property
    def mean_weights(self) -> list[float]:
        """w̄_ci: this set's weight of each LoRA, averaged over its rows."""
        return (self.weight_sum / self.rows).tolist()

    def drift(self) -> float:
        """‖X̃ − X‖ / ‖X‖: how far the merged model's inputs have moved from the teacher's."""
        before = self.teacher_gram.trace().item()
        return (self.moved / before) ** 0.5 if before > 0 else 0.0


def _product(left: Tensor, right: Tensor) -> Tensor:
    """leftᵀ right in float64 on the CPU; float32 factors are summed block by block."""
    if left.dtype == torch.float64:
        return (left.T @ right).cpu()
    total = torch.zeros(left.shape[1], right.shape[1], dtype=torch.float64)
    for one, other in zip(left.split(BLOCK), right.split(BLOCK), strict=True):
        total += (one.T @ other).cpu()
    return total


def _accumulate(sums: dict, key: object, term: Tensor) -> None:
    sums[key] = sums[key] + term if key in sums else term

"""What a solver needs to know of a layer's inputs: Gram matrices, kept in float64.

A row set is a set of inputs with a weight per LoRA and row. The paper's sets have weight 1 for
their own LoRA and 0 for the others; preserve rows have 0 for all. Notation (c counts row sets,
i and j count LoRAs):

    X_c  (rows, in)  inputs of the layer in the teacher: every LoRA at its weight
    X̃_c  (rows, in)  inputs of the same layer for the same rows in the merged model
    w_ci (rows,)     weight of LoRA i at each row
    C_ci  = (w_ci ⊙ X_c)ᵀ X̃_c          G_c = X̃_cᵀ X̃_c
    H_cij = (w_ci ⊙ X_c)ᵀ (w_cj ⊙ X_c)   H_c = X_cᵀ X_c      all (in, in)
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass
class RowStatistics:
    """Running sums over one row set of one layer input (the letters are explained above)."""

    name: str = ""  # of the row set, for the report
    omega: float = 1.0  # ω_c: how much the set counts beside the others
    rows: int = 0
    weight_sum: Tensor = field(default_factory=lambda: torch.zeros(0))  # Σ_rows w_ci (LoRAs,)
    gram: Tensor = field(default_factory=lambda: torch.zeros(0))  # G_c
    teacher_gram: Tensor = field(default_factory=lambda: torch.zeros(0))  # H_c
    cross: dict[int, Tensor] = field(default_factory=dict)  # i → C_ci, where w_ci is not all 0
    teacher_pairs: dict[tuple[int, int], Tensor] = field(default_factory=dict)  # i ≤ j → H_cij
    overlap: float = 0.0  # ⟨X_c, X̃_c⟩

    def add(self, teacher: Tensor, merged: Tensor, weights: Tensor) -> None:
        """Count more rows: teacher and merged (rows, in), paired; weights (rows, LoRAs).

        Inputs are cast before the products: CLIP's outlier channels make float32 Gram
        matrices useless for solving. Products run where the rows are; sums live on the CPU.
        """
        x, x_merged, weights = teacher.double(), merged.double(), weights.double()
        if self.rows == 0:
            self.weight_sum = torch.zeros(weights.shape[1], dtype=torch.float64)
            zeros = torch.zeros(x.shape[1], x.shape[1], dtype=torch.float64)
            self.gram = self.teacher_gram = zeros
        self.rows += x.shape[0]
        self.weight_sum = self.weight_sum + weights.sum(dim=0).cpu()
        self.teacher_gram = self.teacher_gram + (x.T @ x).cpu()
        self.gram = self.gram + (x_merged.T @ x_merged).cpu()
        self.overlap += (x * x_merged).sum().item()
        self._add_weighted(x, x_merged, weights)

    def _add_weighted(self, x: Tensor, x_merged: Tensor, weights: Tensor) -> None:
        """C_ci and H_cij, for the LoRAs with any weight in these rows."""
        active = [i for i in range(weights.shape[1]) if bool(weights[:, i].any())]
        weighted = {i: weights[:, i : i + 1] * x for i in active}
        for i in active:
            _accumulate(self.cross, i, weighted[i].T @ x_merged)
            for j in (j for j in active if j >= i):
                _accumulate(self.teacher_pairs, (i, j), weighted[i].T @ weighted[j])

    @property
    def mean_weights(self) -> list[float]:
        """w̄_ci: this set's weight of each LoRA, averaged over its rows."""
        return (self.weight_sum / self.rows).tolist()

    def drift(self) -> float:
        """‖X̃ − X‖ / ‖X‖: how far the merged model's inputs have moved from the teacher's."""
        before = self.teacher_gram.trace().item()
        moved = before - 2 * self.overlap + self.gram.trace().item()
        return (max(moved, 0.0) / before) ** 0.5 if before > 0 else 0.0


def _accumulate(sums: dict, key: object, term: Tensor) -> None:
    sums[key] = sums[key] + term.cpu() if key in sums else term.cpu()

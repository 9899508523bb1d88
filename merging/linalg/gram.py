"""The Gram matrices of one row set: as rows, while these are few, or summed. Both answer alike.

Notation (i and j count LoRAs; c is the row set; row_statistics.py collects the rows):

    X_c  (rows, in)  inputs of the layer in the teacher: every LoRA at its weight
    X̃_c  (rows, in)  inputs of the same layer for the same rows in the merged model
    w_ci (rows,)     weight of LoRA i at each row
    C_ci  = (w_ci ⊙ X_c)ᵀ X̃_c          G_c = X̃_cᵀ X̃_c
    H_cij = (w_ci ⊙ X_c)ᵀ (w_cj ⊙ X_c)   H_c = X_cᵀ X_c      all (in, in)
    K_c   = X_cᵀ X̃_c

All of it is float64 on the CPU.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property

from torch import Tensor


@dataclass(frozen=True)
class RowGram:
    """The rows of one set: cheaper than (in, in) matrices while they are fewer than channels."""

    teacher: Tensor  # X_c
    merged: Tensor  # X̃_c
    weights: Tensor  # (rows, LoRAs)
    kernel: Tensor  # X̃_c X̃_cᵀ (rows, rows)
    teacher_kernel: Tensor  # X_c X_cᵀ

    def add_gram(self, total: Tensor, weight: float) -> None:
        """total += weight · G_c."""
        total.addmm_(self.merged.T, self.merged, alpha=weight)

    def gram_norm(self) -> float:
        """‖G_c‖_F."""
        return self.kernel.norm().item()

    def add_error(self, total: Tensor, weight: float) -> None:
        """total += weight · (K_c − G_c)."""
        total.addmm_((self.teacher - self.merged).T, self.merged, alpha=weight)

    def plain_norm(self) -> float:
        """‖K_c‖_F."""
        return max((self.kernel * self.teacher_kernel).sum().item(), 0.0) ** 0.5

    def cross_norm(self, i: int) -> float:
        """‖C_ci‖_F."""
        weights = self.weights[:, i]
        square = weights @ (self.kernel * self.teacher_kernel) @ weights
        return max(square.item(), 0.0) ** 0.5

    def times_cross(self, i: int, left: Tensor) -> Tensor:
        """left C_ci, for left (any, in)."""
        return (left @ self.teacher.T * self.weights[:, i]) @ self.merged

    def times_teacher(self, left: Tensor) -> Tensor:
        """left H_c."""
        return left @ self.teacher.T @ self.teacher

    def times_pair(self, i: int, j: int, left: Tensor) -> Tensor:
        """left H_cij."""
        weights = self.weights[:, i] * self.weights[:, j]
        return (left @ self.teacher.T * weights) @ self.teacher

    def with_teacher_inputs(self) -> RowGram:
        """The same with the teacher's inputs in place of the merged model's: X̃ = X."""
        kernel = self.teacher_kernel
        return RowGram(self.teacher, self.teacher, self.weights, kernel, kernel)


@dataclass(frozen=True)
class SummedGram:
    """The products of one set's rows, summed in place as rows come in."""

    gram: Tensor  # G_c
    teacher: Tensor  # H_c
    plain: Tensor  # K_c, empty where it is not needed
    constant: tuple[float, ...] | None  # w_c if it is the same for all rows; then C_ci = w_ci K_c
    cross: dict[int, Tensor] = field(default_factory=dict)  # i → C_ci, if w_c differs by row
    pairs: dict[tuple[int, int], Tensor] = field(default_factory=dict)  # i ≤ j → H_cij

    @cached_property
    def _norms(self) -> dict[str | int, float]:
        """Norms computed so far; valid since no norm is taken before all rows are in."""
        return {}

    def add_gram(self, total: Tensor, weight: float) -> None:
        """total += weight · G_c."""
        total.add_(self.gram, alpha=weight)

    def gram_norm(self) -> float:
        """‖G_c‖_F."""
        return self._norm("gram", self.gram)

    def add_error(self, total: Tensor, weight: float) -> None:
        """total += weight · (K_c − G_c)."""
        total.add_(self.plain, alpha=weight).sub_(self.gram, alpha=weight)

    def plain_norm(self) -> float:
        """‖K_c‖_F."""
        return self._norm("plain", self.plain)

    def cross_norm(self, i: int) -> float:
        """‖C_ci‖_F."""
        if self.constant is None:
            return self._norm(i, self.cross[i])
        return abs(self.constant[i]) * self.plain_norm()

    def times_cross(self, i: int, left: Tensor) -> Tensor:
        """left C_ci, for left (any, in)."""
        if self.constant is None:
            return left @ self.cross[i]
        return self.constant[i] * left @ self.plain

    def times_teacher(self, left: Tensor) -> Tensor:
        """left H_c."""
        return left @ self.teacher

    def times_pair(self, i: int, j: int, left: Tensor) -> Tensor:
        """left H_cij."""
        if self.constant is None:
            return left @ (self.pairs[(i, j)] if i <= j else self.pairs[(j, i)])
        return self.constant[i] * self.constant[j] * left @ self.teacher

    def with_teacher_inputs(self) -> SummedGram:
        """The same with the teacher's inputs in place of the merged model's: X̃ = X."""
        cross = {i: self.pairs[(i, i)] for i in self.cross}
        return replace(self, gram=self.teacher, plain=self.teacher, cross=cross)

    def _norm(self, key: str | int, matrix: Tensor) -> float:
        if key not in self._norms:
            self._norms[key] = matrix.norm().item()
        return self._norms[key]


Gram = RowGram | SummedGram

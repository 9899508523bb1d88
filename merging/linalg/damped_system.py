"""The damped Gram matrix S that a layer is divided by, as a matrix or as the rows it is made of.

    S = Σ_c w_c G_c + μ I,   G_c = X̃_cᵀ X̃_c,   μ > 0

With many rows S is formed and factored once. With fewer rows than channels, in all sets together,
(in, in) matrices are waste: with M = [√w_c X̃_c], S = Mᵀ M + μ I, and by Woodbury's identity

    S⁻¹ = (I − Mᵀ (M Mᵀ + μ I)⁻¹ M) / μ

takes one (rows, rows) factor instead.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor

from merging.errors import MergeError
from merging.linalg.gram import FewRows, Moments

POWER_STEPS = 4


class System(ABC):
    """S, float64; what it is asked for has row vectors on the left."""

    width: int

    @abstractmethod
    def divided(self, rows: Tensor) -> Tensor:
        """rows S⁻¹, for rows (any, in)."""

    @abstractmethod
    def halved(self, rows: Tensor) -> Tensor:
        """rows F for some F with F Fᵀ = S: products of halved rows are products under S."""

    @abstractmethod
    def times(self, rows: Tensor) -> Tensor:
        """rows S."""

    @property
    @abstractmethod
    def factor(self) -> Tensor:
        """Lower Cholesky factor of S (in, in)."""

    def condition(self) -> float:
        """λ_max / λ_min by a few power steps on S and S⁻¹: at most the true ratio, and near it."""
        generator = torch.Generator().manual_seed(0)
        start = torch.randn(1, self.width, generator=generator, dtype=torch.float64)
        largest = smallest = start
        for _ in range(POWER_STEPS):
            largest = self.times(largest / largest.norm())
            smallest = self.divided(smallest / smallest.norm())
        return (largest.norm() * smallest.norm()).item()


class DenseSystem(System):
    """S by its Cholesky factor; the matrix itself is not kept."""

    def __init__(
        self,
        sets: Sequence[Moments],
        weights: Sequence[float],
        ridge: float,
        width: int,
        layer: str,
    ) -> None:
        """Raises MergeError, naming the layer, if S is not positive definite."""
        total = torch.zeros(width, width, dtype=torch.float64)
        for weight, each in zip(weights, sets, strict=True):
            each.add_gram(total, weight)
        total.diagonal().add_(ridge)
        self.width = width
        self._factor = cholesky(total, layer)

    @property
    def factor(self) -> Tensor:
        """Lower Cholesky factor of S."""
        return self._factor

    def divided(self, rows: Tensor) -> Tensor:
        """rows S⁻¹."""
        return _divided(rows, self._factor)

    def halved(self, rows: Tensor) -> Tensor:
        """rows L, with S = L Lᵀ."""
        return rows @ self._factor

    def times(self, rows: Tensor) -> Tensor:
        """rows S."""
        return rows @ self._factor @ self._factor.T


class RowSystem(System):
    """S by the rows of all sets, fewer than channels."""

    def __init__(
        self, sets: Sequence[FewRows], weights: Sequence[float], ridge: float, layer: str
    ) -> None:
        """Raises MergeError, naming the layer, if M Mᵀ + μ I is not positive definite."""
        roots = [weight**0.5 for weight in weights]
        pairs = list(zip(roots, sets, strict=True))
        self._rows = torch.cat([root * each.merged for root, each in pairs])
        kernel = torch.cat([self._beside(pair, pairs) for pair in pairs])
        kernel.diagonal().add_(ridge)
        self.width = self._rows.shape[1]
        self._ridge, self._layer = ridge, layer
        self._small = cholesky(kernel, layer)

    @staticmethod
    def _beside(one: tuple[float, FewRows], all_of_them: list[tuple[float, FewRows]]) -> Tensor:
        """One set's rows of M Mᵀ; its product with itself is known."""
        root, own = one
        return torch.cat(
            [
                root * other * (own.kernel if each is own else own.merged @ each.merged.T)
                for other, each in all_of_them
            ],
            dim=1,
        )

    @cached_property
    def factor(self) -> Tensor:
        """Lower Cholesky factor of S, which is formed after all."""
        matrix = self._rows.T @ self._rows
        matrix.diagonal().add_(self._ridge)
        return cholesky(matrix, self._layer)

    def divided(self, rows: Tensor) -> Tensor:
        """rows S⁻¹."""
        inside = _divided(rows @ self._rows.T, self._small)
        return (rows - inside @ self._rows) / self._ridge

    def halved(self, rows: Tensor) -> Tensor:
        """rows [Mᵀ, √μ I]."""
        return torch.cat([rows @ self._rows.T, self._ridge**0.5 * rows], dim=1)

    def times(self, rows: Tensor) -> Tensor:
        """rows S."""
        return rows @ self._rows.T @ self._rows + self._ridge * rows


def cholesky(matrix: Tensor, layer: str) -> Tensor:
    """Lower Cholesky factor; a sentence instead of a stack trace if there is none."""
    factor, info = torch.linalg.cholesky_ex(matrix)
    if info.item() != 0:
        raise MergeError(
            f"{layer}: the calibration inputs are degenerate (Gram matrix not positive definite); "
            "use more prompts or a larger ridge."
        )
    return factor


def _divided(rows: Tensor, factor: Tensor) -> Tensor:
    """rows (L Lᵀ)⁻¹."""
    half = torch.linalg.solve_triangular(factor, rows.T, upper=False)
    return torch.linalg.solve_triangular(factor.T, half, upper=True).T

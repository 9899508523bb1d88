"""The damped Gram matrix S of a layer's linear system, as a matrix or by the rows it sums.

    S = Σ_c w_c G_c + μ I,   G_c = X̃_cᵀ X̃_c,   μ > 0

With many rows S is formed and factored once. With fewer rows than channels, in all sets together,
a smaller factor serves: with M = [√w_c X̃_c], S = Mᵀ M + μ I, and Woodbury's identity

    S⁻¹ = (I − Mᵀ (M Mᵀ + μ I)⁻¹ M) / μ

needs only the Cholesky factor of a (rows, rows) matrix.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor

from merging.errors import MergeError
from merging.linalg.gram import Gram, RowGram

POWER_STEPS = 4


class System(ABC):
    """S, float64; it acts on row vectors from the right."""

    width: int

    @abstractmethod
    def solve(self, rows: Tensor) -> Tensor:
        """rows S⁻¹, for rows (any, in)."""

    @abstractmethod
    def times_factor(self, rows: Tensor) -> Tensor:
        """rows F for some F with F Fᵀ = S, so that a F (b F)ᵀ = a S bᵀ."""

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
            smallest = self.solve(smallest / smallest.norm())
        return (largest.norm() * smallest.norm()).item()


class DenseSystem(System):
    """S by its Cholesky factor; the matrix itself is not kept."""

    def __init__(
        self,
        grams: Sequence[Gram],
        weights: Sequence[float],
        ridge: float,
        width: int,
        layer: str,
    ) -> None:
        """Raises MergeError, naming the layer, if S is not positive definite."""
        total = torch.zeros(width, width, dtype=torch.float64)
        for weight, gram in zip(weights, grams, strict=True):
            gram.add_gram(total, weight)
        total.diagonal().add_(ridge)
        self.width = width
        self._factor = cholesky(total, layer)

    @property
    def factor(self) -> Tensor:
        """Lower Cholesky factor of S."""
        return self._factor

    def solve(self, rows: Tensor) -> Tensor:
        """rows S⁻¹."""
        return _cholesky_solve(rows, self._factor)

    def times_factor(self, rows: Tensor) -> Tensor:
        """rows L, with S = L Lᵀ."""
        return rows @ self._factor

    def times(self, rows: Tensor) -> Tensor:
        """rows S."""
        return rows @ self._factor @ self._factor.T


class RowSystem(System):
    """S by the rows of all sets, where these are fewer than channels."""

    def __init__(
        self, grams: Sequence[RowGram], weights: Sequence[float], ridge: float, layer: str
    ) -> None:
        """Raises MergeError, naming the layer, if M Mᵀ + μ I is not positive definite."""
        roots = [weight**0.5 for weight in weights]
        pairs = list(zip(roots, grams, strict=True))
        self._rows = torch.cat([root * gram.merged for root, gram in pairs])
        kernel = torch.cat([self._kernel_rows(pair, pairs) for pair in pairs])
        kernel.diagonal().add_(ridge)
        self.width = self._rows.shape[1]
        self._ridge, self._layer = ridge, layer
        self._kernel_factor = cholesky(kernel, layer)

    @staticmethod
    def _kernel_rows(pair: tuple[float, RowGram], pairs: list[tuple[float, RowGram]]) -> Tensor:
        """The rows of M Mᵀ that belong to one set, a pair of √w_c and its Gram."""
        root, gram = pair
        return torch.cat(
            [
                root * other_root * (gram.kernel if other is gram else gram.merged @ other.merged.T)
                for other_root, other in pairs
            ],
            dim=1,
        )

    @cached_property
    def factor(self) -> Tensor:
        """Lower Cholesky factor of S; truncation needs it as a matrix."""
        matrix = self._rows.T @ self._rows
        matrix.diagonal().add_(self._ridge)
        return cholesky(matrix, self._layer)

    def solve(self, rows: Tensor) -> Tensor:
        """rows S⁻¹."""
        coefficients = _cholesky_solve(rows @ self._rows.T, self._kernel_factor)
        return (rows - coefficients @ self._rows) / self._ridge

    def times_factor(self, rows: Tensor) -> Tensor:
        """rows [Mᵀ, √μ I]."""
        return torch.cat([rows @ self._rows.T, self._ridge**0.5 * rows], dim=1)

    def times(self, rows: Tensor) -> Tensor:
        """rows S."""
        return rows @ self._rows.T @ self._rows + self._ridge * rows


def cholesky(matrix: Tensor, layer: str) -> Tensor:
    """Lower Cholesky factor; MergeError, naming the layer, if there is none."""
    factor, info = torch.linalg.cholesky_ex(matrix)
    if info.item() != 0:
        raise MergeError(
            f"{layer}: the calibration inputs are degenerate (Gram matrix not positive definite); "
            "use more prompts or a larger ridge."
        )
    return factor


def _cholesky_solve(rows: Tensor, factor: Tensor) -> Tensor:
    """rows (L Lᵀ)⁻¹."""
    half = torch.linalg.solve_triangular(factor, rows.T, upper=False)
    return torch.linalg.solve_triangular(factor.T, half, upper=True).T

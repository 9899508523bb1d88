"""The closed form shared by IterIS and RegMean, over row sets, in factored form.

Notation (row vectors; one layer; the sums over rows are explained in merging/linalg/gram.py):

    W0 (out, in)   weight of the base model
    Δ_i = B_i A_i  change of LoRA i, all scales folded in: B_i (out, r_i), A_i (r_i, in)
    λ_c, ω_c       weight of row set c (merging/linalg/row_set_weights.py)
    α₁, α₂         ridge on the cross and on the Gram matrices, relative to their norms

The merged change minimises Σ_c ω_c λ_c ‖ Σ_i (w_ci ⊙ X_c) Δ_iᵀ − X̃_c Δᵀ ‖² up to the ridge:

    Δ* = ( Σ_c ω_c λ_c Σ_i Δ_i (C_ci + α₁ ‖C_ci‖_F I) ) S⁻¹,  S = Σ_c ω_c λ_c (G_c + α₂ ‖G_c‖_F I)

(arXiv 2411.15231, eq. of the closed form in delta mode; one row set per LoRA is the paper.)
The answer is [B_1 … B_N] A*: its rank is at most Σ r_i, and nothing is lost by keeping factors.

The other modes also imitate what the base weight gave on the teacher's inputs, which adds W0 E S⁻¹
and makes the answer dense:

    delta+residual  E = Σ_c ω_c λ_c (K_c − G_c)
    full            E = Σ_c ω_c λ_c (K_c + α₂ ‖K_c‖_F I) − S, the paper's form with W_i = W0 + Δ_i;
                    the fallback acts on the Δ_i alone: W0 must not be added N times
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import combinations_with_replacement

import torch
from torch import Tensor

from merging.linalg.damped_system import DenseSystem, RowSystem, System
from merging.linalg.delta import Delta, from_dense, inner_product, sum_deltas
from merging.linalg.gram import Gram, RowGram
from merging.linalg.row_set_weights import energy_weights
from merging.linalg.row_statistics import RowStatistics
from merging.options import Fallback, Mode, Weighting


@dataclass(frozen=True)
class LayerProblem:
    """All that a method may use to merge one layer; derived values are computed once."""

    name: str
    deltas: tuple[Delta | None, ...]  # one per LoRA; None where the LoRA lacks the layer
    strengths: tuple[float, ...]  # already folded into the deltas; means divide by them
    weight: Tensor | None = None  # W0 (out, in); None for methods that need no model
    rows: tuple[RowStatistics, ...] = ()  # empty for methods that need no activations
    alpha: float = 1e-3  # α₂, relative to ‖G_c‖_F
    cross_alpha: float | None = None  # α₁, relative to ‖C_ci‖_F; None: as the fallback needs it
    fallback: Fallback = "mean"  # what the ridge pulls to in directions that no row has
    mode: Mode = "delta"
    weighting: Weighting = "merged"  # λ_c, for methods that do not fix their weighting
    names: tuple[str, ...] = ()  # one per LoRA; the same whatever the order of the list
    steps: tuple[int | None, ...] = ()  # training step of every LoRA; None: not in its file
    seed: int = 0  # for methods that draw random numbers
    composites: tuple[Delta | None, ...] = ()  # further teachers (merging/calibration/teachers.py)

    @cached_property
    def grams(self) -> list[Gram]:
        """One Gram object per row set: by its rows where these are few, else summed."""
        return [rows.row_gram() if rows.keeps_rows else rows.summed_gram() for rows in self.rows]

    @cached_property
    def weights(self) -> list[float]:
        """ω_c λ_c of every row set."""
        sets = list(zip(self.rows, self.grams, strict=True))
        return energy_weights(self.weighting, self.weight, self.teachers, sets)

    @cached_property
    def ridge(self) -> float:
        """μ: α₂ Σ_c ω_c λ_c ‖G_c‖_F."""
        norms = [gram.gram_norm() for gram in self.grams]
        return self.alpha * sum(w * norm for w, norm in zip(self.weights, norms, strict=True))

    @cached_property
    def system(self) -> System:
        """S of the notation above; MergeError where it has no Cholesky factor.

        Where λ does not depend on the layer, layers that share an input share S and its factor.
        """
        if self.weighting != "uniform":
            return self._build_system()
        shared, key = self.rows[0].systems, (self.alpha, self.rows)
        if key not in shared:
            shared[key] = self._build_system()
        return shared[key]

    def _build_system(self) -> System:
        width = self.rows[0].width
        by_rows = [gram for gram in self.grams if isinstance(gram, RowGram)]
        if len(by_rows) == len(self.rows) and sum(rows.rows for rows in self.rows) <= width:
            return RowSystem(by_rows, self.weights, self.ridge, self.name)
        return DenseSystem(self.grams, self.weights, self.ridge, width, self.name)

    @cached_property
    def rhs(self) -> Delta:
        """Σ_c ω_c λ_c Σ_i Δ_i C_ci: the right-hand side that S⁻¹ is applied to."""
        teachers = [(i, delta) for i, delta in enumerate(self.teachers) if delta is not None]
        downs = [weighted_cross(self, i, delta.down) for i, delta in teachers]
        return Delta(torch.cat([delta.up for _, delta in teachers], dim=1), torch.cat(downs))

    @cached_property
    def solution_parts(self) -> tuple[Delta, Delta]:
        """Δ* of delta mode in two parts: from the rows, and from the ridge.

        The second is Σ_i Δ_i α₁ (Σ_c ω_c λ_c ‖C_ci‖_F) S⁻¹.
        """
        pairs = zip(teacher_ridges(self), self.teachers, strict=True)
        damped = torch.cat([ridge * delta.down for ridge, delta in pairs if delta is not None])
        from_rows, from_ridge = self.system.solve(torch.cat([self.rhs.down, damped])).chunk(2)
        return Delta(self.rhs.up, from_rows), Delta(self.rhs.up, from_ridge)

    @cached_property
    def target_energy(self) -> float:
        """Σ_c ω_c λ_c ‖Σ_i (w_ci ⊙ X_c) Δ_iᵀ‖²: the objective at Δ = 0."""
        energies = map(partial(_set_energy, self.teachers), self.rows, self.grams)
        return sum(w * energy for w, energy in zip(self.weights, energies, strict=True))

    @property
    def teachers(self) -> tuple[Delta | None, ...]:
        """The changes that a row has a weight for: of the LoRAs, then of the composites."""
        return self.deltas + self.composites

    @property
    def present(self) -> list[Delta]:
        """The changes of the LoRAs that have this layer, in the user's order."""
        return [delta for delta in self.deltas if delta is not None]


def solve_rows(problem: LayerProblem) -> Delta:
    """Δ* of the notation above; float64; rank Σ r_i in delta mode, up to min(out, in) else."""
    from_rows, from_ridge = problem.solution_parts
    answer = Delta(from_rows.up, from_rows.down + from_ridge.down)
    return answer if problem.mode == "delta" else sum_deltas([answer, _residual(problem)])


def teacher_ridges(problem: LayerProblem) -> list[float]:
    """α₁ Σ_c ω_c λ_c ‖C_ci‖_F of every teacher i.

    The ridge of preserved rows is shared by all LoRAs. A composite is merged already, so that its
    ridge is α₂, as that of a single LoRA.
    """
    count = len(problem.deltas)
    totals = [0.0] * len(problem.teachers)
    for weight, rows, gram in zip(problem.weights, problem.rows, problem.grams, strict=True):
        if rows.active:
            for i in rows.active:
                totals[i] += weight * gram.cross_norm(i)
        else:
            shared = weight * gram.gram_norm() / count
            totals[:count] = [total + shared for total in totals[:count]]
    alphas = [cross_alpha(problem)] * count + [problem.alpha] * len(problem.composites)
    return [alpha * total for alpha, total in zip(alphas, totals, strict=True)]


def cross_alpha(problem: LayerProblem) -> float:
    """α₁. In directions that no row has, α₁ = α₂ averages the LoRAs, α₁ = N α₂ sums them."""
    if problem.cross_alpha is not None:
        return problem.cross_alpha
    shares = {"mean": 1.0, "sum": float(len(problem.deltas)), "zero": 0.0}
    return problem.alpha * shares[problem.fallback]


def objective(problem: LayerProblem, delta: Delta) -> float:
    """Σ_c ω_c λ_c ‖Σ_i (w_ci ⊙ X_c) Δ_iᵀ − X̃_c Δᵀ‖², without the ridge."""
    overlap = inner_product(problem.rhs, None, delta)
    root = Delta(delta.up, problem.system.times_factor(delta.down))
    energy = inner_product(root, None, root) - problem.ridge * inner_product(delta, None, delta)
    return max(problem.target_energy - 2 * overlap + energy, 0.0)


def zero_delta(problem: LayerProblem) -> Delta:
    """Δ = 0 of the layer's shape: the layer as the base model has it."""
    delta = problem.present[0]
    return Delta(delta.up[:, :0], delta.down[:0])


def weighted_cross(problem: LayerProblem, i: int, down: Tensor) -> Tensor:
    """A_i Σ_c ω_c λ_c C_ci."""
    total = torch.zeros_like(down)
    for weight, rows, gram in zip(problem.weights, problem.rows, problem.grams, strict=True):
        if i in rows.active:
            total += weight * gram.times_cross(i, down)
    return total


def _residual(problem: LayerProblem) -> Delta:
    """W0 E S⁻¹ of the modes "delta+residual" and "full"."""
    if problem.weight is None:
        raise ValueError(f"mode {problem.mode} needs the base weight")
    width = problem.rows[0].width
    error = torch.zeros(width, width, dtype=torch.float64)
    for weight, gram in zip(problem.weights, problem.grams, strict=True):
        gram.add_error(error, weight)
        if problem.mode == "full":
            excess = gram.plain_norm() - gram.gram_norm()
            error.diagonal().add_(weight * problem.alpha * excess)
    return from_dense(problem.system.solve(problem.weight @ error))


def _set_energy(deltas: Sequence[Delta | None], rows: RowStatistics, gram: Gram) -> float:
    """‖Σ_i (w_ci ⊙ X_c) Δ_iᵀ‖² of one row set, pair by pair."""
    total = 0.0
    for i, j in combinations_with_replacement(rows.active, 2):
        one, other = deltas[i], deltas[j]
        if one is not None and other is not None:
            product = Delta(one.up, gram.times_pair(i, j, one.down))
            total += (1 if i == j else 2) * inner_product(product, None, other)
    return total

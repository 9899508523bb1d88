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
                    the fallback moves the Δ_i alone, since a sum of N base weights is nobody's wish
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import combinations_with_replacement

import torch
from torch import Tensor

from merging.linalg.damped_system import DenseSystem, RowSystem, System
from merging.linalg.delta import Delta, from_dense, inner, stacked
from merging.linalg.gram import FewRows, Moments
from merging.linalg.row_set_weights import energy_weights
from merging.linalg.row_statistics import RowStatistics
from merging.options import Fallback, Mode, Weighting


@dataclass(frozen=True)
class LayerProblem:
    """All that a method may look at to merge one layer; what several ask for is kept."""

    name: str
    deltas: tuple[Delta | None, ...]  # one per LoRA; None where the LoRA lacks the layer
    strengths: tuple[float, ...]  # already folded into the deltas; means divide by them
    weight: Tensor | None = None  # W0 (out, in); None for methods that need no model
    rows: tuple[RowStatistics, ...] = ()  # empty for methods that need no activations
    alpha: float = 1e-3  # α₂, relative to ‖G_c‖_F
    cross_alpha: float | None = None  # α₁, relative to ‖C_ci‖_F; None: what the fallback asks for
    fallback: Fallback = "mean"  # what the ridge pulls to where the rows are silent
    mode: Mode = "delta"
    weighting: Weighting = "merged"  # λ_c, for methods that do not bring their own
    names: tuple[str, ...] = ()  # of the LoRAs, one each: who they are, whatever their order
    steps: tuple[int | None, ...] = ()  # training step of each LoRA's file; None if it says none
    seed: int = 0  # of methods that draw at random
    composites: tuple[Delta | None, ...] = ()  # further teachers (merging/calibration/teachers.py)

    @cached_property
    def moments(self) -> list[Moments]:
        """Every row set for the solver: by its rows where these are few, else by their products."""
        return [each.few_rows() if each.few else each.grams() for each in self.rows]

    @cached_property
    def weights(self) -> list[float]:
        """ω_c λ_c of every row set."""
        sets = list(zip(self.rows, self.moments, strict=True))
        return energy_weights(self.weighting, self.weight, self.teachers, sets)

    @cached_property
    def ridge(self) -> float:
        """μ: α₂ Σ_c ω_c λ_c ‖G_c‖_F."""
        norms = [each.gram_norm() for each in self.moments]
        return self.alpha * sum(w * norm for w, norm in zip(self.weights, norms, strict=True))

    @cached_property
    def system(self) -> System:
        """S of the notation above; MergeError where it has no Cholesky factor.

        Where λ does not depend on the layer, layers that share an input share S and its factor.
        """
        if self.weighting != "uniform":
            return self._factored()
        shared, key = self.rows[0].systems, (self.alpha, self.rows)
        if key not in shared:
            shared[key] = self._factored()
        return shared[key]

    def _factored(self) -> System:
        width = self.rows[0].width
        few = [each for each in self.moments if isinstance(each, FewRows)]
        if len(few) == len(self.rows) and sum(each.rows for each in self.rows) <= width:
            return RowSystem(few, self.weights, self.ridge, self.name)
        return DenseSystem(self.moments, self.weights, self.ridge, width, self.name)

    @cached_property
    def pull(self) -> Delta:
        """Σ_c ω_c λ_c Σ_i Δ_i C_ci: what the rows ask for, before S⁻¹."""
        given = [(i, delta) for i, delta in enumerate(self.teachers) if delta is not None]
        downs = [pulled(self, i, delta.down) for i, delta in given]
        return Delta(torch.cat([delta.up for _, delta in given], dim=1), torch.cat(downs))

    @cached_property
    def parts(self) -> tuple[Delta, Delta]:
        """Δ* of delta mode in two parts: what the rows put there, and what the ridge did.

        The second is Σ_i Δ_i α₁ (Σ_c ω_c λ_c ‖C_ci‖_F) S⁻¹.
        """
        pairs = zip(cross_ridges(self), self.teachers, strict=True)
        kept = torch.cat([ridge * delta.down for ridge, delta in pairs if delta is not None])
        pulled, kept = self.system.divided(torch.cat([self.pull.down, kept])).chunk(2)
        return Delta(self.pull.up, pulled), Delta(self.pull.up, kept)

    @cached_property
    def wanted(self) -> float:
        """Σ_c ω_c λ_c ‖Σ_i (w_ci ⊙ X_c) Δ_iᵀ‖²: what doing nothing would miss."""
        energies = map(partial(_target_energy, self.teachers), self.rows, self.moments)
        return sum(w * energy for w, energy in zip(self.weights, energies, strict=True))

    @property
    def teachers(self) -> tuple[Delta | None, ...]:
        """The changes that the rows' weights speak of: of the LoRAs, then of the composites."""
        return self.deltas + self.composites

    @property
    def present(self) -> list[Delta]:
        """The changes of the LoRAs that have this layer, in the user's order."""
        return [delta for delta in self.deltas if delta is not None]


def solve_rows(problem: LayerProblem) -> Delta:
    """Δ* of the notation above; float64; rank Σ r_i in delta mode, up to min(out, in) else."""
    pulled, kept = problem.parts
    answer = Delta(pulled.up, pulled.down + kept.down)
    return answer if problem.mode == "delta" else stacked([answer, _residual(problem)])


def cross_ridges(problem: LayerProblem) -> list[float]:
    """α₁ Σ_c ω_c λ_c ‖C_ci‖_F of every teacher i.

    Preserved rows pull to the same fallback, shared by all LoRAs. A composite is whole by itself:
    its own rows pull to it with α₂, as those of one LoRA would.
    """
    count = len(problem.deltas)
    totals = [0.0] * len(problem.teachers)
    for weight, rows, moments in zip(problem.weights, problem.rows, problem.moments, strict=True):
        if rows.active:
            for i in rows.active:
                totals[i] += weight * moments.cross_norm(i)
        else:
            shared = weight * moments.gram_norm() / count
            totals[:count] = [total + shared for total in totals[:count]]
    alphas = [cross_alpha(problem)] * count + [problem.alpha] * len(problem.composites)
    return [alpha * total for alpha, total in zip(alphas, totals, strict=True)]


def cross_alpha(problem: LayerProblem) -> float:
    """α₁. Where the rows are silent, α₁ = α₂ averages the LoRAs, α₁ = N α₂ sums them."""
    if problem.cross_alpha is not None:
        return problem.cross_alpha
    shares = {"mean": 1.0, "sum": float(len(problem.deltas)), "zero": 0.0}
    return problem.alpha * shares[problem.fallback]


def objective(problem: LayerProblem, delta: Delta) -> float:
    """Σ_c ω_c λ_c ‖Σ_i (w_ci ⊙ X_c) Δ_iᵀ − X̃_c Δᵀ‖², without the ridge."""
    met = inner(problem.pull, None, delta)
    half = Delta(delta.up, problem.system.halved(delta.down))
    given = inner(half, None, half) - problem.ridge * inner(delta, None, delta)
    return max(problem.wanted - 2 * met + given, 0.0)


def nothing(problem: LayerProblem) -> Delta:
    """Δ = 0 of the layer's shape: what the base model alone would do."""
    like = problem.present[0]
    return Delta(like.up[:, :0], like.down[:0])


def pulled(problem: LayerProblem, i: int, down: Tensor) -> Tensor:
    """A_i Σ_c ω_c λ_c C_ci."""
    total = torch.zeros_like(down)
    for weight, rows, moments in zip(problem.weights, problem.rows, problem.moments, strict=True):
        if i in rows.active:
            total += weight * moments.crossed(i, down)
    return total


def _residual(problem: LayerProblem) -> Delta:
    """W0 E S⁻¹ of the modes that keep the base weight's part of the error."""
    if problem.weight is None:
        raise ValueError(f"mode {problem.mode} needs the base weight")
    width = problem.rows[0].width
    error = torch.zeros(width, width, dtype=torch.float64)
    for weight, each in zip(problem.weights, problem.moments, strict=True):
        each.add_error(error, weight)
        if problem.mode == "full":
            excess = each.plain_norm() - each.gram_norm()
            error.diagonal().add_(weight * problem.alpha * excess)
    return from_dense(problem.system.divided(problem.weight @ error))


def _target_energy(deltas: Sequence[Delta | None], rows: RowStatistics, moments: Moments) -> float:
    """‖Σ_i (w_ci ⊙ X_c) Δ_iᵀ‖², pair by pair."""
    total = 0.0
    for i, j in combinations_with_replacement(rows.active, 2):
        one, other = deltas[i], deltas[j]
        if one is not None and other is not None:
            seen = Delta(one.up, moments.taught(i, j, one.down))
            total += (1 if i == j else 2) * inner(seen, None, other)
    return total

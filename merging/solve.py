"""The closed form shared by IterIS and RegMean, over row sets, in factored form.

Notation (row vectors; one layer; the sums over rows are explained in merging/gram.py):

    W0 (out, in)   weight of the base model
    Δ_i = B_i A_i  change of LoRA i, all scales folded in: B_i (out, r_i), A_i (r_i, in)
    λ_c, ω_c       weight of row set c (merging/weighting.py)
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
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from merging.deltas import Delta, from_dense, inner, stacked
from merging.errors import MergeError
from merging.gram import RowStatistics
from merging.weighting import Weighting, energy_weights

Fallback = Literal["mean", "sum", "zero"]
Mode = Literal["delta", "delta+residual", "full"]


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

    @cached_property
    def weights(self) -> list[float]:
        """ω_c λ_c of every row set."""
        return energy_weights(self.weighting, self.weight, self.deltas, self.rows)

    @cached_property
    def system(self) -> Tensor:
        """S of the notation above, (in, in)."""
        total = torch.zeros_like(self.rows[0].gram)
        for weight, rows in zip(self.weights, self.rows, strict=True):
            total += weight * rows.gram
            total.diagonal().add_(weight * self.alpha * rows.gram.norm().item())
        return total

    @cached_property
    def factor(self) -> Tensor:
        """Lower Cholesky factor of S; MergeError where S has none."""
        return cholesky(self.system, self.name)

    @property
    def present(self) -> list[Delta]:
        """The changes of the LoRAs that have this layer, in the user's order."""
        return [delta for delta in self.deltas if delta is not None]


def solve_rows(problem: LayerProblem) -> Delta:
    """Δ* of the notation above; float64; rank Σ r_i in delta mode, up to min(out, in) else."""
    ridges = cross_ridges(problem)
    downs = [
        ridges[i] * delta.down + pulled(problem, i, delta.down)
        for i, delta in enumerate(problem.deltas)
        if delta is not None
    ]
    answer = _combined(problem, downs)
    return answer if problem.mode == "delta" else stacked([answer, _residual(problem)])


def fallback_part(problem: LayerProblem) -> Delta:
    """What of Δ* the ridge alone put there: Σ_i Δ_i α₁ (Σ_c ω_c λ_c ‖C_ci‖_F) S⁻¹."""
    ridges = cross_ridges(problem)
    downs = [ridges[i] * delta.down for i, delta in enumerate(problem.deltas) if delta is not None]
    return _combined(problem, downs)


def cross_ridges(problem: LayerProblem) -> list[float]:
    """α₁ Σ_c ω_c λ_c ‖C_ci‖_F of every LoRA i.

    Preserved rows pull to the same fallback, shared by all LoRAs.
    """
    totals = [0.0] * len(problem.deltas)
    for weight, rows in zip(problem.weights, problem.rows, strict=True):
        shared = rows.gram.norm().item() / len(totals) if not rows.cross else 0.0
        for i in range(len(totals)):
            size = rows.cross[i].norm().item() if i in rows.cross else shared
            totals[i] += weight * size
    return [cross_alpha(problem) * total for total in totals]


def cross_alpha(problem: LayerProblem) -> float:
    """α₁. Where the rows are silent, α₁ = α₂ averages the LoRAs, α₁ = N α₂ sums them."""
    if problem.cross_alpha is not None:
        return problem.cross_alpha
    shares = {"mean": 1.0, "sum": float(len(problem.deltas)), "zero": 0.0}
    return problem.alpha * shares[problem.fallback]


def pulled(problem: LayerProblem, i: int, down: Tensor) -> Tensor:
    """A_i Σ_c ω_c λ_c C_ci."""
    total = torch.zeros_like(down)
    for weight, rows in zip(problem.weights, problem.rows, strict=True):
        if i in rows.cross:
            total = total + weight * (down @ rows.cross[i])
    return total


def cholesky(system: Tensor, layer: str) -> Tensor:
    """Lower factor of a damped Gram matrix; a sentence instead of a stack trace if it has none."""
    factor, info = torch.linalg.cholesky_ex(system)
    if info.item() != 0:
        raise MergeError(
            f"{layer}: the calibration inputs are degenerate (Gram matrix not positive definite); "
            "use more prompts or a larger ridge."
        )
    return factor


def objective(problem: LayerProblem, delta: Delta) -> float:
    """Σ_c ω_c λ_c ‖Σ_i (w_ci ⊙ X_c) Δ_iᵀ − X̃_c Δᵀ‖², without the ridge."""
    total = 0.0
    for weight, rows in zip(problem.weights, problem.rows, strict=True):
        met = sum(
            inner(wanted, cross, delta)
            for i, cross in rows.cross.items()
            if (wanted := problem.deltas[i]) is not None
        )
        given = inner(delta, rows.gram, delta)
        total += weight * (_target_energy(problem, rows) - 2 * met + given)
    return max(total, 0.0)


def nothing(problem: LayerProblem) -> Delta:
    """Δ = 0 of the layer's shape: what the base model alone would do."""
    like = problem.present[0]
    return Delta(like.up[:, :0], like.down[:0])


def _combined(problem: LayerProblem, downs: Sequence[Tensor]) -> Delta:
    """[B_1 … B_N] (rows S⁻¹)."""
    ups = torch.cat([delta.up for delta in problem.present], dim=1)
    return Delta(ups, _divided(torch.cat(list(downs)), problem.factor))


def _divided(rows: Tensor, factor: Tensor) -> Tensor:
    """rows S⁻¹, with S = factor factorᵀ."""
    return torch.cholesky_solve(rows.T, factor).T


def _residual(problem: LayerProblem) -> Delta:
    """W0 E S⁻¹ of the modes that keep the base weight's part of the error."""
    if problem.weight is None:
        raise ValueError(f"mode {problem.mode} needs the base weight")
    error = torch.zeros_like(problem.system)
    for weight, rows in zip(problem.weights, problem.rows, strict=True):
        error += weight * (rows.plain_cross - rows.gram)
        if problem.mode == "full":
            excess = rows.plain_cross.norm().item() - rows.gram.norm().item()
            error.diagonal().add_(weight * problem.alpha * excess)
    return from_dense(_divided(problem.weight @ error, problem.factor))


def _target_energy(problem: LayerProblem, rows: RowStatistics) -> float:
    """‖Σ_i (w_ci ⊙ X_c) Δ_iᵀ‖² from the pairwise Gram matrices."""
    total = 0.0
    for (i, j), gram in rows.teacher_pairs.items():
        one, other = problem.deltas[i], problem.deltas[j]
        if one is not None and other is not None:
            total += (1 if i == j else 2) * inner(one, gram, other)
    return total

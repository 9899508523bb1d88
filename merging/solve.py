"""The closed form shared by IterIS and RegMean, over row sets, in factored form.

Notation (row vectors; one layer; the sums over rows are explained in merging/gram.py):

    W0 (out, in)   weight of the base model
    Δ_i = B_i A_i  change of LoRA i, all scales folded in: B_i (out, r_i), A_i (r_i, in)
    λ_c, ω_c       weight of row set c: λ_c balances the sets' energies, ω_c is the user's
    α₁, α₂         ridge on the cross and on the Gram matrices, relative to their norms

The merged change minimises Σ_c ω_c λ_c ‖ Σ_i (w_ci ⊙ X_c) Δ_iᵀ − X̃_c Δᵀ ‖² up to the ridge:

    Δ* = ( Σ_c ω_c λ_c Σ_i Δ_i (C_ci + α₁ ‖C_ci‖_F I) ) ( Σ_c ω_c λ_c (G_c + α₂ ‖G_c‖_F I) )⁻¹

(arXiv 2411.15231, eq. of the closed form in delta mode; one row set per LoRA is the paper.)
The answer is [B_1 … B_N] A*: its rank is at most Σ r_i, and nothing is lost by keeping factors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from merging.deltas import Delta
from merging.errors import MergeError
from merging.gram import RowStatistics

Fallback = Literal["mean", "sum", "zero"]
Weighting = Literal["merged", "uniform"]


@dataclass(frozen=True)
class LayerProblem:
    """All that a method may look at to merge one layer."""

    name: str
    deltas: tuple[Delta | None, ...]  # one per LoRA; None where the LoRA lacks the layer
    strengths: tuple[float, ...]  # already folded into the deltas; means divide by them
    weight: Tensor | None = None  # W0 (out, in); None for methods that need no model
    rows: tuple[RowStatistics, ...] = ()  # empty for methods that need no activations
    alpha: float = 1e-3  # α₂, relative to ‖G_c‖_F
    fallback: Fallback = "mean"  # what the ridge pulls to where the rows are silent
    names: tuple[str, ...] = ()  # of the LoRAs, one each: who they are, whatever their order
    steps: tuple[int | None, ...] = ()  # training step of each LoRA's file; None if it says none
    seed: int = 0  # of methods that draw at random

    @property
    def present(self) -> list[Delta]:
        """The changes of the LoRAs that have this layer, in the user's order."""
        return [delta for delta in self.deltas if delta is not None]


def solve_rows(problem: LayerProblem, weighting: Weighting) -> Delta:
    """Δ* of the notation above; float64; rank Σ r_i."""
    weights = set_weights(problem, weighting)
    system = damped_gram(problem, weights)
    downs = [
        delta.down @ _pull(problem, i, weights)
        for i, delta in enumerate(problem.deltas)
        if delta is not None
    ]
    factor = cholesky(system, problem.name)
    down = torch.cholesky_solve(torch.cat(downs).T, factor).T
    return Delta(torch.cat([delta.up for delta in problem.present], dim=1), down)


def set_weights(problem: LayerProblem, weighting: Weighting) -> list[float]:
    """ω_c λ_c of every row set. λ_c = ‖W_c‖² / ‖X_c W_cᵀ‖² with W_c = W0 + Σ_i w̄_ci Δ_i."""
    if weighting == "uniform":
        return [rows.omega for rows in problem.rows]
    return [rows.omega * _energy_weight(problem, rows) for rows in problem.rows]


def damped_gram(problem: LayerProblem, weights: Sequence[float]) -> Tensor:
    """Σ_c ω_c λ_c (G_c + α₂ ‖G_c‖_F I), (in, in)."""
    system = torch.zeros_like(problem.rows[0].gram)
    for weight, rows in zip(weights, problem.rows, strict=True):
        system = system + weight * _ridged(rows.gram, problem.alpha)
    return system


def cholesky(system: Tensor, layer: str) -> Tensor:
    """Lower factor of a damped Gram matrix; a sentence instead of a stack trace if it has none."""
    factor, info = torch.linalg.cholesky_ex(system)
    if info.item() != 0:
        raise MergeError(
            f"{layer}: the calibration inputs are degenerate (Gram matrix not positive definite); "
            "use more prompts or a larger ridge."
        )
    return factor


def objective(problem: LayerProblem, delta: Delta, weights: Sequence[float]) -> float:
    """Σ_c ω_c λ_c ‖Σ_i (w_ci ⊙ X_c) Δ_iᵀ − X̃_c Δᵀ‖², without the ridge."""
    total = 0.0
    for weight, rows in zip(weights, problem.rows, strict=True):
        met = sum(
            _inner(wanted, cross, delta)
            for i, cross in rows.cross.items()
            if (wanted := problem.deltas[i]) is not None
        )
        given = _inner(delta, rows.gram, delta)
        total += weight * (_target_energy(problem, rows) - 2 * met + given)
    return max(total, 0.0)


def nothing(problem: LayerProblem) -> Delta:
    """Δ = 0 of the layer's shape: what the base model alone would do."""
    like = problem.present[0]
    return Delta(like.up[:, :0], like.down[:0])


def _pull(problem: LayerProblem, i: int, weights: Sequence[float]) -> Tensor:
    """Σ_c ω_c λ_c (C_ci + α₁ ‖C_ci‖_F I), the right-hand side of LoRA i without its Δ_i."""
    ridge = problem.alpha * _fallback_share(problem)
    pull = torch.zeros_like(problem.rows[0].gram)
    for weight, rows in zip(weights, problem.rows, strict=True):
        if i in rows.cross:
            pull = pull + weight * _ridged(rows.cross[i], ridge)
        elif not rows.cross:  # preserve rows: the ridge still pulls to the same fallback
            pull = pull + weight * _ridge(rows.gram, ridge / len(problem.deltas))
    return pull


def _fallback_share(problem: LayerProblem) -> float:
    """α₁ / α₂. Where the rows are silent, equal α's average the LoRAs, α₁ = N α₂ sums them."""
    return {"mean": 1.0, "sum": float(len(problem.deltas)), "zero": 0.0}[problem.fallback]


def _energy_weight(problem: LayerProblem, rows: RowStatistics) -> float:
    """λ_c of one row set, 0 for a set whose outputs vanish."""
    if problem.weight is None:
        raise ValueError("energy weights need the base weight")
    merged = problem.weight
    for share, delta in zip(rows.mean_weights, problem.deltas, strict=True):
        if share and delta is not None:
            merged = merged + share * delta.dense()
    energy = ((merged @ rows.teacher_gram) * merged).sum().item()
    return merged.square().sum().item() / energy if energy > 0 else 0.0


def _target_energy(problem: LayerProblem, rows: RowStatistics) -> float:
    """‖Σ_i (w_ci ⊙ X_c) Δ_iᵀ‖² from the pairwise Gram matrices."""
    total = 0.0
    for (i, j), gram in rows.teacher_pairs.items():
        one, other = problem.deltas[i], problem.deltas[j]
        if one is not None and other is not None:
            total += (1 if i == j else 2) * _inner(one, gram, other)
    return total


def _inner(one: Delta, matrix: Tensor, other: Delta) -> float:
    """⟨Δ M, Δ'⟩ = tr(Δ M Δ'ᵀ), from the factors alone."""
    return ((one.up.T @ other.up) * (one.down @ matrix @ other.down.T)).sum().item()


def _ridged(matrix: Tensor, share: float) -> Tensor:
    return matrix + _ridge(matrix, share)


def _ridge(matrix: Tensor, share: float) -> Tensor:
    size = share * matrix.norm().item()
    return size * torch.eye(matrix.shape[0], dtype=matrix.dtype, device=matrix.device)

"""Custom Diffusion's closed form for several concepts (arXiv:2212.04488): text keys and values."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from merging.linalg.closed_form import LayerProblem, pulled
from merging.linalg.damped_system import cholesky
from merging.linalg.delta import Delta

# Directions of the phrases' rows with less than this share of the largest energy are not held:
# the rows are equal up to a thousandth there, and holding them would cost any change elsewhere.
HELD = 1e-6


def custom_diffusion(problem: LayerProblem) -> Delta:
    """min ‖R Δᵀ‖² subject to Δ x = Δ_i x for every row x of LoRA i's own phrase.

    R are the rows of prompts without any trigger, which count as whole sentences; the ridge makes
    them span the space. A phrase's rows are those that LoRA i's own text encoder gives. The authors
    solve for stacked rows and need them independent; with the rows' Gram matrix G = E Λ Eᵀ (HELD of
    it) and P = Σ_i Δ_i G_i, P E Λ⁻¹ is what Δ must do on E:

        Δ* = P E Λ⁻¹ (Eᵀ (RᵀR)⁻¹ E)⁻¹ Eᵀ (RᵀR)⁻¹

    which is theirs for independent rows, and least squares where the phrases contradict each other.
    One LoRA alone has nothing to be reconciled with, and is given back whole.
    """
    if len(problem.deltas) == 1:
        return problem.present[0]
    given = replace(problem, weighting="uniform")
    energies, basis = torch.linalg.eigh(_gram(given, phrases=True))
    held = energies > HELD * energies[-1]
    energies, basis = energies[held], basis[:, held]
    gentle = torch.cholesky_solve(basis, cholesky(_damped(given), given.name)).T  # Eᵀ (RᵀR)⁻¹
    lift = (basis / energies) @ torch.linalg.solve(gentle @ basis, gentle)
    own = [(delta.up, pulled(given, i, delta.down) @ lift) for i, delta in _present(given)]
    ups, downs = zip(*own, strict=True)
    return Delta(torch.cat(ups, dim=1), torch.cat(downs))


def _present(problem: LayerProblem) -> list[tuple[int, Delta]]:
    return [(i, delta) for i, delta in enumerate(problem.teachers) if delta is not None]


def _gram(problem: LayerProblem, phrases: bool) -> Tensor:
    """Σ_c ω_c G_c over the sets that some LoRA teaches, or over those that none does."""
    width = problem.rows[0].width
    total = torch.zeros(width, width, dtype=torch.float64)
    for weight, rows in zip(problem.weights, problem.rows, strict=True):
        if bool(rows.active) == phrases:
            total.add_(rows.grams().gram, alpha=weight)
    return total


def _damped(problem: LayerProblem) -> Tensor:
    """RᵀR and the ridge; without any such rows the unit matrix, which asks for a small change."""
    total = _gram(problem, phrases=False)
    total.diagonal().add_(problem.alpha * total.norm().item() or 1.0)
    return total

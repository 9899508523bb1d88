"""Custom Diffusion's closed form for several concepts (arXiv:2212.04488): text keys and values."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from merging.linalg.closed_form import LayerProblem, weighted_cross
from merging.linalg.damped_system import cholesky
from merging.linalg.delta import Delta

# Directions of the phrases' rows with less than this share of the largest energy are not
# constrained: the rows differ by less than a thousandth there, and the constraint would cause
# large changes elsewhere.
CONSTRAINED = 1e-6


def custom_diffusion(problem: LayerProblem) -> Delta:
    """min ‖R Δᵀ‖² subject to Δ x = Δ_i x for every row x of LoRA i's phrase.

    R are the rows of prompts without any trigger phrase, all of their tokens; the ridge makes them
    span the space. A phrase's rows come from the text encoder with LoRA i. The authors stack the
    rows and need them to be independent. Here G = E Λ Eᵀ is the rows' Gram matrix (eigenvalues
    above CONSTRAINED alone), P = Σ_i Δ_i G_i, and P E Λ⁻¹ is what Δ must do on E:

        Δ* = P E Λ⁻¹ (Eᵀ (RᵀR)⁻¹ E)⁻¹ Eᵀ (RᵀR)⁻¹

    For independent rows this is the authors' solution; where phrases contradict each other, it is
    least squares. A single LoRA stays as it is.
    """
    if len(problem.deltas) == 1:
        return problem.present[0]
    uniform = replace(problem, weighting="uniform")
    energies, basis = torch.linalg.eigh(_gram(uniform, phrases=True))
    constrained = energies > CONSTRAINED * energies[-1]
    energies, basis = energies[constrained], basis[:, constrained]
    damped = cholesky(_damped_gram(uniform), uniform.name)
    inverse = torch.cholesky_solve(basis, damped).T  # Eᵀ (RᵀR)⁻¹
    lift = (basis / energies) @ torch.linalg.solve(inverse @ basis, inverse)
    teachers = [(i, delta) for i, delta in enumerate(uniform.teachers) if delta is not None]
    downs = [weighted_cross(uniform, i, delta.down) @ lift for i, delta in teachers]
    return Delta(torch.cat([delta.up for _, delta in teachers], dim=1), torch.cat(downs))


def _gram(problem: LayerProblem, phrases: bool) -> Tensor:
    """Σ_c ω_c G_c over the sets of phrases, or over those of prompts without any."""
    width = problem.rows[0].width
    total = torch.zeros(width, width, dtype=torch.float64)
    for weight, rows in zip(problem.weights, problem.rows, strict=True):
        if bool(rows.active) == phrases:
            total.add_(rows.summed_gram().gram, alpha=weight)
    return total


def _damped_gram(problem: LayerProblem) -> Tensor:
    """RᵀR and the ridge; without such rows the unit matrix, so that Δ itself stays small."""
    total = _gram(problem, phrases=False)
    total.diagonal().add_(problem.alpha * total.norm().item() or 1.0)
    return total

"""Learned CAT (LoRA Soups, arXiv:2410.13025): each LoRA with a weight of its own in every layer."""

from __future__ import annotations

from dataclasses import replace

import torch

from merging.linalg.closed_form import LayerProblem, teacher_ridges
from merging.linalg.delta import Delta, inner_product, sum_deltas

NEGLIGIBLE = 1e-12  # of the largest eigenvalue: LoRAs that say the same share their weight


def learned_cat(problem: LayerProblem) -> Delta:
    """Δ* = Σ_j α_j Δ_j, with the α_j that minimise RegMean's objective.

    The authors train the weights with the model's loss; here the objective is quadratic in them,
    and the minimum is α = A⁻¹ b with A_jk = ⟨Δ_j S, Δ_k⟩ and b_j = ⟨Σ_i Δ_i C_i, Δ_j⟩ in the
    notation of merging/linalg/closed_form.py, ridges included. Nothing is mixed within a LoRA.
    """
    problem = replace(problem, weighting="uniform")
    loras = problem.present
    roots = [Delta(lora.up, problem.system.times_factor(lora.down)) for lora in loras]
    curvature = [[inner_product(one, None, other) for other in roots] for one in roots]
    target = _target(problem)
    slope = [inner_product(target, None, lora) for lora in loras]
    inverse = torch.linalg.pinv(
        torch.tensor(curvature, dtype=torch.float64), rtol=NEGLIGIBLE, hermitian=True
    )
    weights = inverse @ torch.tensor(slope, dtype=torch.float64)
    return sum_deltas(loras, weights.tolist())


def _target(problem: LayerProblem) -> Delta:
    """Σ_c ω_c λ_c Σ_i Δ_i (C_ci + α₁ ‖C_ci‖_F I)."""
    pairs = zip(teacher_ridges(problem), problem.teachers, strict=True)
    damped = [ridge * delta.down for ridge, delta in pairs if delta is not None]
    return Delta(problem.rhs.up, problem.rhs.down + torch.cat(damped))

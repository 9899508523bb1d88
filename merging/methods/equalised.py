"""The sum after loud LoRAs were turned down (norm consistency, after arXiv:2507.05678)."""

from __future__ import annotations

from statistics import median

from merging.linalg.closed_form import LayerProblem, nothing
from merging.linalg.core_space import live_parts
from merging.linalg.delta import Delta, stacked

GAMMA = 0.5  # 0 leaves all as they are, 1 takes loud ones all the way down; half-way is customary


def equalised(problem: LayerProblem) -> Delta:
    """Δ* = Σ_i min(1, (median_j ‖D_j‖ / ‖D_i‖)^γ) Δ_i, D_i being Δ_i at strength 1.

    The strengths act after it, so a LoRA that the user turns up does stay louder.
    """
    parts = live_parts(problem)
    if not parts:
        return nothing(problem)
    norms = [part.delta.norm() / abs(part.strength) for part in parts]
    middle = median(norms)
    shares = [min(1.0, (middle / norm) ** GAMMA) for norm in norms]
    return stacked([part.delta for part in parts], shares)

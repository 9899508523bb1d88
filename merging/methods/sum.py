"""The plain weighted sum (task arithmetic, arXiv:2212.04089), exact by concatenation."""

from __future__ import annotations

from merging.linalg.closed_form import LayerProblem
from merging.linalg.delta import Delta, sum_deltas


def weighted_sum(problem: LayerProblem) -> Delta:
    """Δ* = Σ_i Δ_i: what loading all LoRAs at their strengths does."""
    return sum_deltas(problem.present)

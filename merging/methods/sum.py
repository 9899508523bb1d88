"""The plain weighted sum (task arithmetic, arXiv:2212.04089), exact by concatenation."""

from __future__ import annotations

from merging.deltas import Delta, stacked
from merging.solve import LayerProblem


def weighted_sum(problem: LayerProblem) -> Delta:
    """Δ* = Σ_i Δ_i: what loading all LoRAs at their strengths does."""
    return stacked(problem.present)

"""RegMean (arXiv:2212.09849): imitates every LoRA's outputs on the inputs it has alone."""

from __future__ import annotations

from dataclasses import replace

from merging.linalg.closed_form import LayerProblem, solve_rows
from merging.linalg.delta import Delta


def regmean(problem: LayerProblem) -> Delta:
    """IterIS' closed form with X̃ = X and equal row sets."""
    return solve_rows(replace(problem, weighting="uniform"))

"""RegMean (arXiv:2212.09849): each LoRA's outputs on its own inputs, solved once."""

from __future__ import annotations

from dataclasses import replace

from merging.deltas import Delta
from merging.solve import LayerProblem, solve_rows


def regmean(problem: LayerProblem) -> Delta:
    """IterIS' closed form with X̃ = X and equal row sets."""
    return solve_rows(replace(problem, weighting="uniform"))

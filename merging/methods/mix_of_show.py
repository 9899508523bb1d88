"""The objective of Mix-of-Show's gradient fusion (arXiv:2305.18292), in closed form."""

from __future__ import annotations

from dataclasses import replace

from merging.linalg.closed_form import LayerProblem, solve_rows
from merging.linalg.delta import Delta


def mix_of_show(problem: LayerProblem) -> Delta:
    """min Σ_i ‖X_i Δᵀ − X_i Δ_iᵀ‖²; directions that no row has stay unchanged.

    The authors descend from W0 and stop early; the small ridge towards zero does the same without
    a number of steps. They solve text encoder, K/V and the rest in turn, on the models merged so
    far, and use the rows of the new tokens alone; here X_i comes from LoRA i by itself, and all
    rows count. The user's fallback is ignored.
    """
    return solve_rows(replace(problem, fallback="zero", cross_alpha=None, weighting="uniform"))

"""The objective of Mix-of-Show's gradient fusion (arXiv:2305.18292), in closed form."""

from __future__ import annotations

from dataclasses import replace

from merging.linalg.closed_form import LayerProblem, solve_rows
from merging.linalg.delta import Delta


def mix_of_show(problem: LayerProblem) -> Delta:
    """min Σ_i ‖X_i Δᵀ − X_i Δ_iᵀ‖², from zero change: where no prompt has been, nothing changes.

    The authors descend from W0 and stop early; the small ridge towards zero does the same, with
    no steps to choose. They solve text encoder, K/V and the rest one after the other, each on the
    merged models before it, and keep the new tokens' rows alone; here every X_i is the LoRA's
    own, and every row counts. The user's fallback has no say.
    """
    return solve_rows(replace(problem, fallback="zero", cross_alpha=None, weighting="uniform"))

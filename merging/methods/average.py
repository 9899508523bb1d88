"""The weighted average (model soups on deltas, arXiv:2203.05482), exact by concatenation."""

from __future__ import annotations

from merging.errors import MergeError
from merging.linalg.closed_form import LayerProblem
from merging.linalg.delta import Delta, sum_deltas


def average(problem: LayerProblem) -> Delta:
    """Δ* = Σ_i w_i D_i / Σ_i |w_i| over the LoRAs that have the layer, D_i at strength 1.

    Strengths are relative: doubling them all changes nothing.
    """
    pairs = zip(problem.deltas, problem.strengths, strict=True)
    total = sum(abs(strength) for delta, strength in pairs if delta is not None)
    if total == 0:
        raise MergeError(
            f"{problem.name}: all strengths are 0, so there is nothing to average; raise one."
        )
    return sum_deltas(problem.present, [1 / total] * len(problem.present))

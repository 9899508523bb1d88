"""MWA (metrics-weighted averaging, arXiv:2504.18580) of several checkpoints of one training run."""

from __future__ import annotations

from merging.errors import MergeError
from merging.linalg.closed_form import LayerProblem, nothing
from merging.linalg.delta import Delta, stacked

PENALTY = 1.0  # the paper's exponent; its choice could not be found, 1 weighs by the step itself


def mwa(problem: LayerProblem) -> Delta:
    """Δ* = Σ_i p_i Δ_i / Σ_i p_i |w_i|, p_i = (training step of checkpoint i)^penalty.

    Strengths w_i are relative, as for the average; the step is the header's ss_steps.
    """
    indices = [i for i, delta in enumerate(problem.deltas) if delta is not None]
    steps = [1.0] if len(indices) == 1 else [_step(problem, i) for i in indices]
    shares = [step**PENALTY for step in steps]
    total = sum(s * abs(problem.strengths[i]) for s, i in zip(shares, indices, strict=True))
    if total == 0:
        return nothing(problem)
    return stacked(problem.present, [share / total for share in shares])


def _step(problem: LayerProblem, i: int) -> float:
    """Training step of LoRA i; one sentence if its file does not say."""
    step = problem.steps[i] if problem.steps else None
    if step is None or step <= 0:
        raise MergeError(
            f"LoRA {i + 1} of {len(problem.deltas)} does not say at which training step it was "
            "saved (ss_steps in a kohya header), and MWA weighs by it; use the weighted average."
        )
    return float(step)

"""MWA (metrics-weighted averaging, arXiv:2504.18580) of several checkpoints of one training run."""

from __future__ import annotations

from merging.errors import MergeError
from merging.linalg.closed_form import LayerProblem, zero_delta
from merging.linalg.delta import Delta, sum_deltas

PENALTY = 1.0  # the paper's exponent, whose value it does not state; 1 weighs by the step itself


def mwa(problem: LayerProblem) -> Delta:
    """Δ* = Σ_i p_i Δ_i / Σ_i p_i |w_i|, p_i = (training step of checkpoint i)^penalty.

    Strengths w_i are relative, as in the average; the step is ss_steps of the file's header.
    """
    indices = [i for i, delta in enumerate(problem.deltas) if delta is not None]
    steps = [1.0] if len(indices) == 1 else [_step(problem, i) for i in indices]
    shares = [step**PENALTY for step in steps]
    total = sum(s * abs(problem.strengths[i]) for s, i in zip(shares, indices, strict=True))
    if total == 0:
        return zero_delta(problem)
    return sum_deltas(problem.present, [share / total for share in shares])


def _step(problem: LayerProblem, i: int) -> float:
    """Training step of LoRA i; MergeError if its file has none."""
    step = problem.steps[i] if problem.steps else None
    if step is None or step <= 0:
        raise MergeError(
            f"LoRA {i + 1} of {len(problem.deltas)} does not say at which training step it was "
            "saved (ss_steps in a kohya header), and MWA weighs by it; use the weighted average."
        )
    return float(step)

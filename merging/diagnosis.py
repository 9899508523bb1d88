"""What one layer's solution looks like in numbers, so that a person knows where a merge is weak."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from merging.deltas import Delta, inner, stacked
from merging.gram import RowStatistics
from merging.solve import LayerProblem, fallback_part, nothing, objective, solve_rows

POWER_STEPS = 12


def objectives(problem: LayerProblem, answer: Delta) -> dict[str, float]:
    """The objective of merging/solve.py for other answers and ours; leaving the layer alone is 1.

    RegMean is solved on the teachers' own inputs and judged, like all, on the merged model's.
    """
    reference = objective(problem, nothing(problem))
    if reference <= 0:
        return {}
    answers = {"base": nothing(problem), "sum": stacked(problem.present)}
    unmoved = replace(problem, rows=_unmoved(problem.rows), mode="delta", weighting="uniform")
    if unmoved.rows:
        answers["regmean"] = solve_rows(unmoved)
    answers["merged"] = answer
    return {name: objective(problem, each) / reference for name, each in answers.items()}


def fallback_share(problem: LayerProblem, answer: Delta) -> float:
    """‖ridge's part of Δ*‖ / ‖Δ*‖: near 1, the calibration hardly spoke on this layer."""
    part = fallback_part(problem)
    size = inner(answer, None, answer)
    return (inner(part, None, part) / size) ** 0.5 if size > 0 else 0.0


def condition(problem: LayerProblem) -> float:
    """λ_max / λ_min of the damped Gram matrix S, estimated by power iteration on S and S⁻¹."""
    width = problem.system.shape[0]
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(width, 1, generator=generator, dtype=problem.system.dtype)
    largest = smallest = start
    for _ in range(POWER_STEPS):
        largest = problem.system @ (largest / largest.norm())
        smallest = torch.cholesky_solve(smallest / smallest.norm(), problem.factor)
    return (largest.norm() * smallest.norm()).item()


def _unmoved(rows: Sequence[RowStatistics]) -> tuple[RowStatistics, ...]:
    """The single-concept sets as RegMean sees them: the merged model's inputs are the teacher's."""
    single = [(each, i) for each in rows if (i := _only_lora(each)) is not None]
    return tuple(
        replace(each, gram=each.teacher_gram, cross={i: each.teacher_gram}) for each, i in single
    )


def _only_lora(rows: RowStatistics) -> int | None:
    """The LoRA that alone is the teacher of every row, if there is one."""
    weights: Tensor = rows.weight_sum
    (active,) = weights.nonzero(as_tuple=True)
    if len(active) == 1 and weights[active[0]].item() == rows.rows:
        return int(active[0])
    return None

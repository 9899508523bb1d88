"""Figures on the quality of one layer's solution, for the report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from merging.linalg.closed_form import LayerProblem, objective, solve_rows, zero_delta
from merging.linalg.delta import Delta, inner_product, sum_deltas
from merging.linalg.row_statistics import RowStatistics


def objectives(problem: LayerProblem, answer: Delta) -> dict[str, float]:
    """The objective (closed_form.py) of this answer and three others, relative to no change = 1.

    RegMean is solved on the teachers' inputs and, like the others, measured on the merged model's.
    """
    reference = objective(problem, zero_delta(problem))
    if reference <= 0:
        return {}
    answers = {"base": zero_delta(problem), "sum": sum_deltas(problem.present)}
    rows = _regmean_rows(problem.rows, len(problem.deltas))
    if rows:
        regmean = replace(problem, rows=rows, mode="delta", weighting="uniform")
        answers["regmean"] = solve_rows(regmean)
    answers["merged"] = answer
    return {name: objective(problem, delta) / reference for name, delta in answers.items()}


def fallback_share(problem: LayerProblem, answer: Delta) -> float:
    """‖ridge's part of Δ*‖ / ‖Δ*‖: near 1, the calibration hardly decided this layer."""
    _, from_ridge = problem.solution_parts
    size = inner_product(answer, None, answer)
    return (inner_product(from_ridge, None, from_ridge) / size) ** 0.5 if size > 0 else 0.0


def _regmean_rows(rows: Sequence[RowStatistics], count: int) -> tuple[RowStatistics, ...]:
    """The single-concept sets as RegMean uses them: with X̃ = X."""
    return tuple(row_set.with_teacher_inputs() for row_set in rows if _has_one_lora(row_set, count))


def _has_one_lora(rows: RowStatistics, count: int) -> bool:
    """Whether a single one of the ``count`` LoRAs, at weight 1, teaches every row."""
    teacher = rows.active[0] if len(rows.active) == 1 else count
    return teacher < count and rows.weight_sum[teacher].item() == rows.rows

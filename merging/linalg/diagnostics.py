"""What one layer's solution looks like in numbers, so that a person knows where a merge is weak."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from merging.linalg.closed_form import LayerProblem, nothing, objective, solve_rows
from merging.linalg.delta import Delta, inner, stacked
from merging.linalg.row_statistics import RowStatistics


def objectives(problem: LayerProblem, answer: Delta) -> dict[str, float]:
    """The objective (closed_form.py) for other answers and ours; leaving the layer alone is 1.

    RegMean is solved on the teachers' own inputs and judged, like all, on the merged model's.
    """
    reference = objective(problem, nothing(problem))
    if reference <= 0:
        return {}
    answers = {"base": nothing(problem), "sum": stacked(problem.present)}
    unmoved = replace(
        problem, rows=_unmoved(problem.rows, len(problem.deltas)), mode="delta", weighting="uniform"
    )
    if unmoved.rows:
        answers["regmean"] = solve_rows(unmoved)
    answers["merged"] = answer
    return {name: objective(problem, each) / reference for name, each in answers.items()}


def fallback_share(problem: LayerProblem, answer: Delta) -> float:
    """‖ridge's part of Δ*‖ / ‖Δ*‖: near 1, the calibration hardly spoke on this layer."""
    _, part = problem.parts
    size = inner(answer, None, answer)
    return (inner(part, None, part) / size) ** 0.5 if size > 0 else 0.0


def _unmoved(rows: Sequence[RowStatistics], count: int) -> tuple[RowStatistics, ...]:
    """The single-concept sets as RegMean sees them: the merged model's inputs are the teacher's."""
    return tuple(each.unmoved() for each in rows if _of_one_lora(each, count))


def _of_one_lora(rows: RowStatistics, count: int) -> bool:
    """Whether one of so many LoRAs alone is the teacher of every row."""
    weights = rows.weight_sum
    one = rows.active[0] if len(rows.active) == 1 else count
    return one < count and weights[one].item() == rows.rows

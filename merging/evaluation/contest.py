"""All contestants on all cases: run or resume them, and write the tables and contact sheets."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from merging.errors import MergeError
from merging.evaluation.cases import Case
from merging.evaluation.cells import Arena, CellResult, cell_name, compute_cell
from merging.evaluation.comparisons import comparison_table, comparisons
from merging.evaluation.contact_sheets import sheet
from merging.evaluation.intervals import Interval, interval
from merging.evaluation.metrics import METRICS
from merging.evaluation.spread import Spread
from merging.evaluation.variants import ENTRANTS
from merging.io.atomic_write import write_whole
from merging.io.png import save_png
from merging.runtime.progress import Progress, part

HEADINGS = {
    "present": "all present",
    "alone": "alone",
    "prior": "prior",
    "leak": "leak",
    "text": "text-align",
    "image": "image-align",
}
# Metrics also shown as a share of a reference contestant's: each LoRA by itself, or the base.
LIMITS = {"alone": "each", "prior": "base"}


@dataclass(frozen=True)
class Standing:
    """A contestant's metrics over the cases that have them, and its failed cases."""

    title: str
    metrics: Mapping[str, Interval]
    by_case: Mapping[str, Interval]  # of "present"
    objective: float | None  # layer objective, mean over the cases
    failed: Mapping[str, str]  # case → reason


def run(
    arena: Arena,
    keys: Sequence[str],
    cases: Sequence[Case],
    progress: Progress,
    spread: Spread | None = None,
) -> dict[str, Any]:
    """Compute every cell and store it; then write JSON, Markdown and contact sheets.

    With ``spread``, workers compute the cells; the files are the same.

    Raises MergeError for an unknown contestant, or if there is no case, before any work.
    """
    if strange := [key for key in keys if key not in ENTRANTS]:
        raise MergeError(f"No contestant is called {strange[0]}; there are {', '.join(ENTRANTS)}.")
    if not cases:
        raise MergeError("No case matches these options.")
    jobs = [(key, case) for case in cases for key in keys]
    if spread:
        spread.compute(arena, jobs, part(progress, 0.0, 0.99))
        progress = part(progress, 0.99, 1.0)
    cells: dict[tuple[str, str], CellResult] = {}
    for index, (key, case) in enumerate(jobs):
        cell_progress = part(progress, index / len(jobs), (index + 1) / len(jobs))
        cell_progress(0.0, f"{case.name}, {ENTRANTS[key].title} ({index + 1} of {len(jobs)})")
        cells[key, case.name] = compute_cell(arena, key, case, cell_progress)
    figures = _figures(arena, keys, cases, cells)
    _write_files(arena, keys, cases, figures)
    return figures


def standing(
    key: str, cases: Sequence[Case], cells: Mapping[tuple[str, str], CellResult]
) -> Standing:
    """A contestant's figures; failed cases are listed and left out of the means."""
    rows = {case.name: cells[key, case.name] for case in cases}
    valid = {name: row for name, row in rows.items() if not row.failed}
    metrics = {
        metric: interval(lists)
        for metric in METRICS
        if (lists := [list(_values(row, metric)) for row in valid.values()]) and all(lists)
    }
    by_case = {
        name: interval([values])
        for name, row in valid.items()
        if (values := list(_values(row, "present")))
    }
    failed = {name: row.failed for name, row in rows.items() if row.failed}
    objectives = [row.objective for row in valid.values() if row.objective is not None]
    mean = sum(objectives) / len(objectives) if objectives else None
    return Standing(ENTRANTS[key].title, metrics, by_case, mean, failed)


def table(figures: Mapping[str, Any]) -> str:
    """The figures as Markdown: means with their intervals, then comparisons, then failures."""
    blocks = [_means(group, rows) for group, rows in figures["groups"].items()]
    for group, compared in figures["comparisons"].items():
        titles = {key: row["title"] for key, row in figures["groups"][group].items()}
        blocks.append(comparison_table(group, compared, titles))
    return "\n\n".join(filter(None, [*blocks, *_failures(figures)]))


def _values(row: CellResult, metric: str) -> Iterable[float]:
    return (scores[metric] for scores in row.scores if metric in scores)


def _figures(
    arena: Arena,
    keys: Sequence[str],
    cases: Sequence[Case],
    cells: Mapping[tuple[str, str], CellResult],
) -> dict[str, Any]:
    """Standings by kind of case, and over all; JSON-able."""
    kinds = dict.fromkeys(case.kind for case in cases)
    groups = {kind: [case for case in cases if case.kind == kind] for kind in kinds}
    if len(groups) > 1:
        groups["all cases"] = list(cases)
    return {
        "base": arena.base.name,
        "steps": arena.steps,
        "guidance": arena.guidance,
        "pictures": {case.name: len(case.tasks) for case in cases},
        "groups": {
            group: {key: _standing_json(standing(key, group_cases, cells)) for key in keys}
            for group, group_cases in groups.items()
        },
        "comparisons": {
            group: comparisons(keys, group_cases, cells) for group, group_cases in groups.items()
        },
    }


def _standing_json(row: Standing) -> dict[str, Any]:
    return {
        "title": row.title,
        "metrics": {name: vars(value) for name, value in row.metrics.items()},
        "by_case": {name: vars(value) for name, value in row.by_case.items()},
        "objective": row.objective,
        "failed": dict(row.failed),
    }


def _means(group: str, rows: Mapping[str, Mapping[str, Any]]) -> str:
    shown = [metric for metric in METRICS if any(metric in row["metrics"] for row in rows.values())]
    names = list(dict.fromkeys(name for row in rows.values() for name in row["by_case"]))
    lines = [f"**{group}**, {len(names)} cases", ""] if names else [f"**{group}**", ""]
    headings = [*(HEADINGS[metric] for metric in shown), "objective", *names]
    lines.append(f"| | {' | '.join(headings)} |")
    lines.append("| --- " * (len(headings) + 1) + "|")
    for row in rows.values():
        means = [_mean(row["metrics"].get(metric), _limit(rows, metric)) for metric in shown]
        by_case = [_mean(row["by_case"].get(name)) for name in names]
        objective = "–" if row["objective"] is None else f"{row['objective']:.3f}"
        lines.append(f"| {row['title']} | {' | '.join([*means, objective, *by_case])} |")
    return "\n".join(lines)


def _limit(rows: Mapping[str, Mapping[str, Any]], metric: str) -> float | None:
    """The reference contestant's mean of a metric, None if it did not run."""
    row = rows.get(LIMITS.get(metric, ""), {"metrics": {}})
    return row["metrics"][metric]["mean"] if metric in row["metrics"] else None


def _mean(value: Mapping[str, float] | None, limit: float | None = None) -> str:
    """The mean, its interval, and its share of the limit."""
    if value is None:
        return "–"
    text = f"{value['mean']:.2f} [{value['low']:.2f}, {value['high']:.2f}]"
    return f"{text}, {value['mean'] / limit:.0%}" if limit else text


def _failures(figures: Mapping[str, Any]) -> list[str]:
    """One line for each failed cell, without the repeats of the groups."""
    lines = {
        f"- {row['title']} failed on {name}: {reason}"
        for rows in figures["groups"].values()
        for row in rows.values()
        for name, reason in row["failed"].items()
    }
    return ["\n".join(sorted(lines))] if lines else []


def _write_files(
    arena: Arena, keys: Sequence[str], cases: Sequence[Case], figures: dict[str, Any]
) -> None:
    write_whole(arena.folder / "results.json", json.dumps(figures, indent=1).encode("utf-8"))
    write_whole(arena.folder / "results.md", (table(figures) + "\n").encode("utf-8"))
    for case in cases:
        strips = [(key, _strip_file(arena, key, case)) for key in keys]
        rows = [(ENTRANTS[key].title, Image.open(file)) for key, file in strips if file.is_file()]
        save_png(sheet(f"{case.name}: {case.tasks[0].prompt}", rows), _sheet_file(arena, case))


def _strip_file(arena: Arena, key: str, case: Case) -> Path:
    return arena.folder / "cells" / f"{cell_name(arena, key, case)}.png"


def _sheet_file(arena: Arena, case: Case) -> Path:
    return arena.folder / f"{case.name}.png"

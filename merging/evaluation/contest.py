"""All contestants on all cases: run, resume, and tell."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from merging.errors import MergeError
from merging.evaluation.cases import Case
from merging.evaluation.cells import Arena, Cell, cell, cell_name
from merging.evaluation.contact_sheets import sheet
from merging.evaluation.intervals import Interval, interval
from merging.evaluation.metrics import METRICS
from merging.evaluation.variants import ENTRANTS
from merging.io.atomic_write import write_whole
from merging.io.png import save_png
from merging.runtime.progress import Progress, part

HEADS = {
    "present": "all present",
    "alone": "alone",
    "prior": "prior",
    "leak": "leak",
    "text": "text-align",
    "image": "image-align",
}
# What is kept is told as a share, too: of each LoRA by itself, of the base.
LIMITS = {"alone": "each", "prior": "base"}


@dataclass(frozen=True)
class Standing:
    """One contestant: every metric over the cases that have it, and what failed."""

    title: str
    metrics: Mapping[str, Interval]
    by_case: Mapping[str, Interval]  # of "present"
    objective: float | None  # of the layers, mean over the cases
    failed: Mapping[str, str]  # case → why


def run(
    arena: Arena, keys: Sequence[str], cases: Sequence[Case], progress: Progress
) -> dict[str, Any]:
    """Every cell, kept as it comes; then JSON, Markdown and contact sheets in the arena's folder.

    Raises MergeError for an unknown contestant or no case, before any work.
    """
    if strange := [key for key in keys if key not in ENTRANTS]:
        raise MergeError(f"No contestant is called {strange[0]}; there are {', '.join(ENTRANTS)}.")
    if not cases:
        raise MergeError("No case fits what was asked for.")
    jobs = [(key, case) for case in cases for key in keys]
    cells: dict[tuple[str, str], Cell] = {}
    for place, (key, case) in enumerate(jobs):
        ahead = part(progress, place / len(jobs), (place + 1) / len(jobs))
        ahead(0.0, f"{case.name}, {ENTRANTS[key].title} ({place + 1} of {len(jobs)})")
        cells[key, case.name] = cell(arena, key, case, ahead)
    figures = _figures(arena, keys, cases, cells)
    _write(arena, keys, cases, figures)
    return figures


def standing(key: str, cases: Sequence[Case], cells: Mapping[tuple[str, str], Cell]) -> Standing:
    """A contestant's figures; failed cases are named and left out of every mean."""
    rows = {case.name: cells[key, case.name] for case in cases}
    fine = {name: row for name, row in rows.items() if not row.failed}
    metrics = {
        metric: interval(lists)
        for metric in METRICS
        if (lists := [list(_values(row, metric)) for row in fine.values()]) and all(lists)
    }
    by_case = {
        name: interval([values])
        for name, row in fine.items()
        if (values := list(_values(row, "present")))
    }
    failed = {name: row.failed for name, row in rows.items() if row.failed}
    missed = [row.objective for row in fine.values() if row.objective is not None]
    mean = sum(missed) / len(missed) if missed else None
    return Standing(ENTRANTS[key].title, metrics, by_case, mean, failed)


def table(figures: Mapping[str, Any]) -> str:
    """The figures as Markdown: means with their intervals, then every case by itself."""
    blocks = [_means(group, rows) for group, rows in figures["groups"].items()]
    return "\n\n".join([*blocks, *_failures(figures)])


def _values(row: Cell, metric: str) -> Iterable[float]:
    return (scores[metric] for scores in row.scores if metric in scores)


def _figures(
    arena: Arena,
    keys: Sequence[str],
    cases: Sequence[Case],
    cells: Mapping[tuple[str, str], Cell],
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
        "pictures": {case.name: len(case.asks) for case in cases},
        "groups": {
            group: {key: _told(standing(key, own, cells)) for key in keys}
            for group, own in groups.items()
        },
    }


def _told(row: Standing) -> dict[str, Any]:
    return {
        "title": row.title,
        "metrics": {name: vars(value) for name, value in row.metrics.items()},
        "by_case": {name: vars(value) for name, value in row.by_case.items()},
        "objective": row.objective,
        "failed": dict(row.failed),
    }


def _means(group: str, rows: Mapping[str, Mapping[str, Any]]) -> str:
    told = [metric for metric in METRICS if any(metric in row["metrics"] for row in rows.values())]
    names = list(dict.fromkeys(name for row in rows.values() for name in row["by_case"]))
    lines = [f"**{group}**, {len(names)} cases", ""] if names else [f"**{group}**", ""]
    heads = [*(HEADS[metric] for metric in told), "objective", *names]
    lines.append(f"| | {' | '.join(heads)} |")
    lines.append("| --- " * (len(heads) + 1) + "|")
    for row in rows.values():
        means = [_mean(row["metrics"].get(metric), _limit(rows, metric)) for metric in told]
        own = [_mean(row["by_case"].get(name)) for name in names]
        missed = "–" if row["objective"] is None else f"{row['objective']:.3f}"
        lines.append(f"| {row['title']} | {' | '.join([*means, missed, *own])} |")
    return "\n".join(lines)


def _limit(rows: Mapping[str, Mapping[str, Any]], metric: str) -> float | None:
    """What a metric is measured against, where that contestant ran too."""
    row = rows.get(LIMITS.get(metric, ""), {"metrics": {}})
    return row["metrics"][metric]["mean"] if metric in row["metrics"] else None


def _mean(value: Mapping[str, float] | None, limit: float | None = None) -> str:
    """The mean, its interval, and its share of the limit."""
    if value is None:
        return "–"
    told = f"{value['mean']:.2f} [{value['low']:.2f}, {value['high']:.2f}]"
    return f"{told}, {value['mean'] / limit:.0%}" if limit else told


def _failures(figures: Mapping[str, Any]) -> list[str]:
    """One sentence for each failed cell; the groups repeat them, so each is told once."""
    lines = {
        f"- {row['title']} failed on {name}: {why}"
        for rows in figures["groups"].values()
        for row in rows.values()
        for name, why in row["failed"].items()
    }
    return ["\n".join(sorted(lines))] if lines else []


def _write(
    arena: Arena, keys: Sequence[str], cases: Sequence[Case], figures: dict[str, Any]
) -> None:
    write_whole(arena.folder / "results.json", json.dumps(figures, indent=1).encode("utf-8"))
    write_whole(arena.folder / "results.md", (table(figures) + "\n").encode("utf-8"))
    for case in cases:
        strips = [(key, _strip_file(arena, key, case)) for key in keys]
        rows = [(ENTRANTS[key].title, Image.open(file)) for key, file in strips if file.is_file()]
        save_png(sheet(f"{case.name}: {case.asks[0].prompt}", rows), _sheet_file(arena, case))


def _strip_file(arena: Arena, key: str, case: Case) -> Path:
    return arena.folder / "cells" / f"{cell_name(arena, key, case)}.png"


def _sheet_file(arena: Arena, case: Case) -> Path:
    return arena.folder / f"{case.name}.png"

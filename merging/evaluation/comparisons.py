"""Contestants compared picture by picture: all draw the same prompts and seeds.

A comparison is the mean difference of a score over pictures, with its bootstrap interval: where the
interval holds 0, the two cannot be told apart. *Forgotten* is what is worse than a reference:
concepts alone, beside each LoRA by itself; other things, beside the base.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from merging.evaluation.cases import Case, Kind
from merging.evaluation.cells import CellResult
from merging.evaluation.intervals import Interval, interval
from merging.evaluation.variants import ENTRANTS

Cells = Mapping[tuple[str, str], CellResult]  # (contestant, case) → its scores
DECIDING = ("present", "image", "text")  # the first that there is ranks the contestants
# What is forgotten: kind of picture, scores in the order of preference, and the reference.
FORGOTTEN: Mapping[str, tuple[Kind, tuple[str, ...], str]] = {
    "concepts": ("alone", ("alone", "image"), "each"),
    "other things": ("prior", ("prior", "text"), "base"),
}


def comparisons(keys: Sequence[str], cases: Sequence[Case], cells: Cells) -> dict[str, Any]:
    """For each contestant: its gain over the sum and over the best merge, and what it forgets.

    JSON-able. What cannot be compared, since a contestant did not run or failed, is left out.
    """
    best = best_merge(keys, cases, cells)
    rivals = {"sum": "sum" if "sum" in keys else "", "best": best}
    rows: dict[str, Any] = {}
    for key in keys:
        gains = {
            name: gain(key, rival, DECIDING, "together", cases, cells)
            for name, rival in rivals.items()
            if rival and rival != key
        }
        lost = {
            name: gain(reference, key, metrics, kind, cases, cells)
            for name, (kind, metrics, reference) in FORGOTTEN.items()
            if reference in keys and reference != key
        }
        rows[key] = {"against": _plain(gains), "forgotten": _plain(lost)}
    return {"best": best, "rows": rows}


def best_merge(keys: Sequence[str], cases: Sequence[Case], cells: Cells) -> str:
    """The merge with the best pictures of several concepts, the first of equals; "" for none."""
    means: dict[str, float] = {}
    for key in keys:
        if ENTRANTS[key].merges:
            values = [_values(key, case, cells, DECIDING, "together") for case in cases]
            if all(values):
                means[key] = sum(sum(case) / len(case) for case in values) / len(values)
    return max(means, key=means.__getitem__, default="")


def gain(
    one: str,
    other: str,
    metrics: Sequence[str],
    kind: Kind,
    cases: Sequence[Case],
    cells: Cells,
) -> Interval | None:
    """How much better one contestant is than another, on the cases that both have."""
    differences = []
    for case in cases:
        pairs = (_values(key, case, cells, metrics, kind) for key in (one, other))
        mine, its = pairs
        if mine and len(mine) == len(its):
            differences.append([a - b for a, b in zip(mine, its, strict=True)])
    return interval(differences) if differences else None


def _values(key: str, case: Case, cells: Cells, metrics: Sequence[str], kind: Kind) -> list[float]:
    """The first of these scores that the pictures of this kind have, picture by picture."""
    scores = cells[key, case.name].scores
    rows = [row for row, task in zip(scores, case.tasks, strict=False) if task.kind == kind]
    for metric in metrics:
        if rows and all(metric in row for row in rows):
            return [row[metric] for row in rows]
    return []


def _plain(intervals: Mapping[str, Interval | None]) -> dict[str, Any]:
    return {name: vars(value) for name, value in intervals.items() if value is not None}


def comparison_table(group: str, compared: Mapping[str, Any], titles: Mapping[str, str]) -> str:
    """The comparisons of one group in Markdown; "" if there is nothing to compare."""
    rows = {key: row for key, row in compared["rows"].items() if row["against"] or row["forgotten"]}
    if not rows:
        return ""
    best = titles.get(compared["best"], "none")
    head = ["better than the sum", f"better than the best merge ({best})"]
    head += [f"{name} forgotten" for name in FORGOTTEN]
    lines = [f"**{group}**, picture by picture", "", f"| | {' | '.join(head)} |"]
    lines.append("| --- " * (len(head) + 1) + "|")
    for key, row in rows.items():
        cells = [row["against"].get(name) for name in ("sum", "best")]
        cells += [row["forgotten"].get(name) for name in FORGOTTEN]
        lines.append(f"| {titles[key]} | {' | '.join(map(difference_text, cells))} |")
    return "\n".join(lines)


def difference_text(value: Mapping[str, float] | None) -> str:
    """``+0.10 [+0.02, +0.18]``; “–” for none."""
    if value is None:
        return "–"
    return f"{value['mean']:+.2f} [{value['low']:+.2f}, {value['high']:+.2f}]"

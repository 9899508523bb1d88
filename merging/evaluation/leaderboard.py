"""The contest as a page: one HTML file beside the contact sheets, without scripts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from merging.evaluation.cases import Case
from merging.evaluation.cells import Arena, cell_file
from merging.evaluation.comparisons import DECIDING, FORGOTTEN, difference_text
from merging.evaluation.contest import HEADINGS
from merging.evaluation.costs import Cost, mean_cost
from merging.evaluation.metrics import METRICS
from merging.io.atomic_write import write_whole
from merging.io.html_templates import html_templates

PAGE = "index.html"
TEMPLATES = html_templates(Path(__file__).with_name("templates"))


def write_page(
    arena: Arena, keys: Sequence[str], cases: Sequence[Case], figures: Mapping[str, Any]
) -> Path:
    """Write the page of a contest that has run: best first, with costs and pictures."""
    costs = {key: mean_cost(cell_file(arena, key, case) for case in cases) for key in keys}
    html = TEMPLATES.get_template("leaderboard.html").render(
        settings=_settings(figures),
        groups=[_group(name, figures, costs) for name in figures["groups"]],
        sheets=[{"name": case.name, "file": quote(f"{case.name}.png")} for case in cases],
    )
    path = arena.folder / PAGE
    write_whole(path, html.encode("utf-8"))
    return path


def _settings(figures: Mapping[str, Any]) -> str:
    pictures = sum(figures["pictures"].values())
    return (
        f"{figures['base']}, {figures['steps']} steps, guidance {figures['guidance']:g}; "
        f"{pictures} pictures of each way"
    )


def _group(
    name: str, figures: Mapping[str, Any], costs: Mapping[str, Cost | None]
) -> dict[str, Any]:
    """One table: its heads, and its rows in the order of the deciding score."""
    standings, compared = figures["groups"][name], figures["comparisons"][name]
    shown = [
        metric for metric in METRICS if any(metric in r["metrics"] for r in standings.values())
    ]
    order = sorted(standings, key=lambda key: -_deciding(standings[key]["metrics"]))
    best = standings[compared["best"]]["title"] if compared["best"] else "none"
    heads = [HEADINGS[metric] for metric in shown]
    heads += ["better than the sum", f"better than {best}"]
    heads += [*(f"{what} forgotten" for what in FORGOTTEN), "merge", "memory", "a picture"]
    rows = [
        {
            "title": standings[key]["title"],
            "cells": _cells(standings[key], compared["rows"][key], shown) + _cost(costs[key]),
            "failed": list(standings[key]["failed"].items()),
        }
        for key in order
    ]
    return {"name": name, "heads": heads, "rows": rows}


def _deciding(metrics: Mapping[str, Mapping[str, float]]) -> float:
    """The mean that ranks: of the first of the scores that there is."""
    return next((metrics[name]["mean"] for name in DECIDING if name in metrics), -1.0)


def _cells(
    standing: Mapping[str, Any], compared: Mapping[str, Any], shown: Sequence[str]
) -> list[str]:
    found = [standing["metrics"].get(metric) for metric in shown]
    means = [
        "–" if one is None else f"{one['mean']:.2f} [{one['low']:.2f}, {one['high']:.2f}]"
        for one in found
    ]
    gains = [compared["against"].get(name) for name in ("sum", "best")]
    lost = [compared["forgotten"].get(name) for name in FORGOTTEN]
    return means + [difference_text(value) for value in (*gains, *lost)]


def _cost(cost: Cost | None) -> list[str]:
    if cost is None:
        return ["–"] * 3
    memory = "–" if cost.merge_bytes is None else f"{cost.merge_bytes / 2**20:,.0f} MiB"
    return [f"{cost.merge_seconds:.1f} s", memory, f"{cost.picture_seconds:.2f} s"]

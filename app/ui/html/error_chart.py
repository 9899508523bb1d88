"""The merge under way as a picture: the error that is left, layer by layer, on a log scale."""

from __future__ import annotations

from collections.abc import Sequence
from math import log10
from typing import Any

from app.ui.html.rendering import rendered
from merging.report import LayerReport

WIDTH, HEIGHT, LEFT = 600, 150, 44
LOWEST, HIGHEST = 1e-2, 3.0  # of the scale; 1 is what leaving the layer alone would cost
LINES = {"sum": "plain sum", "regmean": "RegMean", "merged": "this merge"}
TICKS = (1.0, 0.1, 0.01)


def chart(rows: Sequence[LayerReport], of: int = 0) -> str:
    """The layers solved so far, room for all ``of`` them; "" where none was solved by prompts."""
    solved = [row for row in rows if row.objective]
    if not solved:
        return ""
    count = max(of, len(solved), 2)
    return rendered(
        "error_chart",
        width=WIDTH,
        height=HEIGHT,
        left=LEFT,
        label=_label(solved),
        ticks=[(f"{tick:g}", _down(tick)) for tick in TICKS],
        lines=[_line(solved, name, count) for name in LINES],
    )


def _label(solved: Sequence[LayerReport]) -> str:
    """The drawing in words, for those who do not see it."""
    errors = solved[-1].objective
    listed = [f"{title} {errors[name]:.2g}" for name, title in LINES.items() if name in errors]
    return f"Error on the prompts after {len(solved)} layers; the last one: {', '.join(listed)}"


def _line(rows: Sequence[LayerReport], name: str, count: int) -> dict[str, Any]:
    """The points of one line, for ``count`` layers across the whole width."""
    points = [
        (_across(place, count), _down(row.objective[name]))
        for place, row in enumerate(rows)
        if name in row.objective
    ]
    return {"name": name, "title": LINES[name], "points": points}


def _across(place: int, count: int) -> float:
    return round(LEFT + (WIDTH - LEFT - 6) * place / (count - 1), 1)


def _down(value: float) -> float:
    """From the top: the highest value is at 0."""
    shown = min(max(value, LOWEST), HIGHEST)
    return round(HEIGHT * log10(HIGHEST / shown) / log10(HIGHEST / LOWEST), 1)

"""The error of every layer of a merge, as an SVG chart with a log scale."""

from __future__ import annotations

from collections.abc import Sequence
from math import log10
from typing import Any

from app.ui.html.rendering import render_template
from merging.report import LayerData

WIDTH, HEIGHT, LEFT = 600, 150, 44
LOWEST, HIGHEST = 1e-2, 3.0  # ends of the scale; 1 is the error of an unchanged layer
LINES = {"sum": "plain sum", "regmean": "RegMean", "merged": "this merge"}
TICKS = (1.0, 0.1, 0.01)


def error_chart(rows: Sequence[LayerData]) -> str:
    """A line per kind of error; "" if no layer has an error, and for reports of older versions."""
    solved = [row for row in rows if row.get("objective")]
    if not solved:
        return ""
    count = max(len(solved), 2)
    return render_template(
        "error_chart",
        width=WIDTH,
        height=HEIGHT,
        left=LEFT,
        label=_label(solved),
        ticks=[(f"{tick:g}", _y(tick)) for tick in TICKS],
        lines=[_line(solved, name, count) for name in LINES],
    )


def _label(solved: Sequence[LayerData]) -> str:
    """The chart as text, for screen readers."""
    errors = solved[-1]["objective"]
    values = [f"{title} {errors[name]:.2g}" for name, title in LINES.items() if name in errors]
    text = f"Error on the calibration prompts after {len(solved)} layers"
    return f"{text}; last layer: {', '.join(values)}"


def _line(rows: Sequence[LayerData], name: str, count: int) -> dict[str, Any]:
    """One line; the whole width is ``count`` layers."""
    points = [
        (_x(place, count), _y(row["objective"][name]))
        for place, row in enumerate(rows)
        if name in row["objective"]
    ]
    return {"name": name, "title": LINES[name], "points": points}


def _x(place: int, count: int) -> float:
    return round(LEFT + (WIDTH - LEFT - 6) * place / (count - 1), 1)


def _y(value: float) -> float:
    """Distance from the top; the top is HIGHEST, and errors off the scale are clipped."""
    clipped = min(max(value, LOWEST), HIGHEST)
    return round(HEIGHT * log10(HIGHEST / clipped) / log10(HIGHEST / LOWEST), 1)

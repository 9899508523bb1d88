"""The merge under way as a picture: the error that is left, layer by layer, on a log scale."""

from __future__ import annotations

import re
from collections.abc import Sequence
from math import log10

from merging.report import LayerReport

WIDTH, HEIGHT, LEFT = 600.0, 150.0, 44.0
LOWEST, HIGHEST = 1e-2, 3.0  # of the scale; 1 is what leaving the layer alone would cost
LINES = {"sum": "plain sum", "regmean": "RegMean", "merged": "this merge"}
TICKS = (1.0, 0.1, 0.01)


def chart(rows: Sequence[LayerReport], of: int = 0) -> str:
    """The layers solved so far, room for all ``of`` them; "" where none was solved by prompts."""
    solved = [row for row in rows if row.objective]
    if not solved:
        return ""
    count = max(of, len(solved), 2)
    lines = "".join(_line(solved, name, count) for name in LINES)
    latest = solved[-1]
    said = f"Error on the prompts after {len(solved)} layers; the last one: " + ", ".join(
        f"{title} {latest.objective[name]:.2g}"
        for name, title in LINES.items()
        if name in latest.objective
    )
    return (
        f'<figure class="chart"><figcaption>Error left on the prompts, layer by layer{_legend()}'
        f'</figcaption><svg viewBox="0 0 {WIDTH:g} {HEIGHT:g}" role="img" aria-label="{said}">'
        f"{_grid()}{lines}</svg></figure>"
    )


def layers_of(text: str) -> int:
    """n of "Layer k of n", 0 in other words."""
    found = re.search(r"ayer \d+ of (\d+)", text)
    return int(found[1]) if found else 0


def _line(rows: Sequence[LayerReport], name: str, count: int) -> str:
    points = [
        f"{_across(place, count):.1f},{_down(row.objective[name]):.1f}"
        for place, row in enumerate(rows)
        if name in row.objective
    ]
    end = points[-1].split(",") if points else ("0", "0")
    dot = f'<circle class="{name}" cx="{end[0]}" cy="{end[1]}" r="3"/>' if points else ""
    return f'<polyline class="{name}" points="{" ".join(points)}"/>{dot}'


def _across(place: int, count: int) -> float:
    return LEFT + (WIDTH - LEFT - 6) * place / (count - 1)


def _down(value: float) -> float:
    """From the top: the highest value is at 0."""
    held = min(max(value, LOWEST), HIGHEST)
    return HEIGHT * log10(HIGHEST / held) / log10(HIGHEST / LOWEST)


def _grid() -> str:
    return "".join(
        f'<line x1="{LEFT:g}" x2="{WIDTH:g}" y1="{_down(tick):.1f}" y2="{_down(tick):.1f}"/>'
        f'<text x="{LEFT - 6:g}" y="{_down(tick) + 4:.1f}">{tick:g}</text>'
        for tick in TICKS
    )


def _legend() -> str:
    """The lines by name; 1 on the scale is said as well."""
    names = "".join(f'<span class="{name}">{title}</span>' for name, title in LINES.items())
    return f'<span class="legend">{names}<span>1 = layer left alone</span></span>'

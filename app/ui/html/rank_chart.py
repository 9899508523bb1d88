"""Energy kept over file size, one dot per rank, as an SVG chart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from app.ui.html.fragments import megabytes
from app.ui.html.rendering import render_template

if TYPE_CHECKING:
    from merging.analysis.rank_curve import CurvePoint

WIDTH, HEIGHT, LEFT = 600, 194, 44
TOP, DEPTH = 26, 139  # of the highest dot from the top, and of the lowest dot below that


def rank_chart(points: Sequence[CurvePoint]) -> str:
    """The chart, with a text for screen readers."""
    lowest = min(0.9, min(point.energy for point in points))
    widest = max(point.megabytes for point in points)
    texts = (f"rank {p.rank}: {p.energy:.1%}, {megabytes(p.megabytes)}" for p in points)
    return render_template(
        "rank_chart",
        width=WIDTH,
        height=HEIGHT,
        label="; ".join(texts),
        dots=[
            (
                round(LEFT + (WIDTH - LEFT - 40) * point.megabytes / widest, 1),
                round(TOP + DEPTH * (1 - point.energy) / (1 - lowest), 1),
            )
            for point in points
        ],
        ranks=[point.rank for point in points],
        ticks=[
            ("100%", LEFT - 6, TOP + 4),
            (f"{lowest:.0%}", LEFT - 6, TOP + DEPTH + 4),
            (megabytes(widest), WIDTH - 6, HEIGHT - 2),
        ],
    )


def rank_choices(points: Sequence[CurvePoint]) -> list[tuple[str, str]]:
    """The choices of the rank list as (text, value), the full rank first."""
    full, *smaller = reversed(points)
    return [
        (f"as merged: rank up to {full.rank}, {megabytes(full.megabytes)}", "exact"),
        *(
            (f"{p.rank}: keeps {p.energy:.1%}, {megabytes(p.megabytes)}", f"{p.rank}")
            for p in smaller
        ),
    ]

"""Energy over size, a dot per rank: how much smaller the file may be, and what that costs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from app.ui.html.fragments import megabytes
from app.ui.html.rendering import rendered

if TYPE_CHECKING:
    from merging.analysis.rank_curve import CurvePoint

WIDTH, HEIGHT, LEFT = 600, 194, 44
TOP, DEPTH = 26, 139  # of the highest dot, and how far below it the lowest one is


def rank_chart(points: Sequence[CurvePoint]) -> str:
    """The curve as a drawing, and in words for those who do not see it."""
    lowest = min(0.9, min(point.energy for point in points))
    widest = max(point.megabytes for point in points)
    listed = (f"rank {p.rank}: {p.energy:.1%}, {megabytes(p.megabytes)}" for p in points)
    return rendered(
        "rank_chart",
        width=WIDTH,
        height=HEIGHT,
        label="; ".join(listed),
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


def choices(points: Sequence[CurvePoint]) -> list[tuple[str, str]]:
    """What the list of ranks offers: (text, value), the whole merge first."""
    whole, *smaller = reversed(points)
    return [
        (f"as merged: rank up to {whole.rank}, {megabytes(whole.megabytes)}", "exact"),
        *(
            (f"{p.rank}: keeps {p.energy:.1%}, {megabytes(p.megabytes)}", f"{p.rank}")
            for p in smaller
        ),
    ]

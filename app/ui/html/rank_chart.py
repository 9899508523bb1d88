"""Energy over size, a dot per rank: how much smaller the file may be, and what that costs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from merging.analysis.rank_curve import CurvePoint

WIDTH, HEIGHT, LEFT, FOOT = 600.0, 170.0, 44.0, 24.0


def rank_chart(points: Sequence[CurvePoint]) -> str:
    """The curve as a drawing, and in words for those who do not see it."""
    lowest = min(0.9, min(point.energy for point in points))
    widest = max(point.megabytes for point in points)
    places = [
        (
            LEFT + (WIDTH - LEFT - 40) * point.megabytes / widest,
            HEIGHT * (1 - (point.energy - lowest) / (1 - lowest)) * 0.82 + 26,
        )
        for point in points
    ]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    dots = "".join(
        f'<circle class="merged" cx="{x:.1f}" cy="{y:.1f}" r="3.5"/>'
        f'<text class="rank" x="{x:.1f}" y="{y - 8:.1f}">{point.rank}</text>'
        for (x, y), point in zip(places, points, strict=True)
    )
    said = "; ".join(f"rank {p.rank}: {p.energy:.1%}, {size(p.megabytes)}" for p in points)
    return (
        '<figure class="chart"><figcaption>What is kept at each rank, over the size of the file'
        f'</figcaption><svg viewBox="0 0 {WIDTH:g} {HEIGHT + FOOT:g}" role="img" '
        f'aria-label="{said}"><polyline class="merged" points="{line}"/>{dots}'
        f'<text x="{LEFT - 6:g}" y="30">100%</text>'
        f'<text x="{LEFT - 6:g}" y="{HEIGHT * 0.82 + 30:.1f}">{lowest:.0%}</text>'
        f'<text x="{WIDTH - 6:g}" y="{HEIGHT + FOOT - 2:.1f}">{size(widest)}</text></svg></figure>'
    )


def choices(points: Sequence[CurvePoint]) -> list[tuple[str, str]]:
    """What the list of ranks offers: (words, value), the whole merge first."""
    whole, *smaller = reversed(points)
    return [
        (f"as merged: rank up to {whole.rank}, {size(whole.megabytes)}", "exact"),
        *((f"{p.rank}: keeps {p.energy:.1%}, {size(p.megabytes)}", f"{p.rank}") for p in smaller),
    ]


def size(megabytes: float) -> str:
    """In MB, of small files in KB."""
    return f"{megabytes:.1f} MB" if megabytes >= 1 else f"{megabytes * 1024:.0f} KB"

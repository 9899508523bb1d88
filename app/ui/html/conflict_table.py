"""Where LoRAs meet, as a strip of blocks: one column a block, darker where there is more of it."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import TYPE_CHECKING, Any

from app.ui.html.rendering import rendered

if TYPE_CHECKING:
    from app.jobs.conflicts import ConflictReport
    from merging.analysis.conflicts import Meeting, Pair

# Each row: its title, what it means, the number shown and how dark it is, from 0 to 1.
Row = tuple[str, str, Callable[["Meeting"], str], Callable[["Meeting"], float]]
ROWS: tuple[Row, ...] = (
    (
        "overlap, %",
        "how much both react to the same inputs",
        lambda met: f"{100 * met.overlap:.0f}",
        lambda met: 2 * met.shared,
    ),
    (
        "cosine",
        "1 the same change, −1 the opposite one",
        lambda met: f"{met.cosine:.2f}".replace("0.", ".").replace("-", "−"),
        lambda met: 2 * abs(met.cosine),
    ),
    (
        "loudness",
        "how much the first changes, the second being 1",
        lambda met: "∞" if met.ratio == inf else f"{met.ratio:.1f}",
        lambda met: abs(met.ratio - 1) / (met.ratio + 1) if met.ratio < inf else 1.0,
    ),
)


def conflicts(found: ConflictReport) -> str:
    """Every pair in words and as a strip, the worst one open; "" where there is no pair."""
    if not found.pairs and not found.said:
        return ""
    return rendered("conflicts", notes=found.said, pairs=[_pair(pair) for pair in found.pairs])


def _pair(pair: Pair) -> dict[str, Any]:
    from merging.analysis.conflicts import advice  # it imports torch, which is there by now

    return {
        "names": " and ".join(pair.names),
        "advice": advice(pair),
        "blocks": [_short(met.block) for met in pair.blocks],
        "rows": [
            (title, meaning, [(number(met), min(max(heat(met), 0), 1)) for met in pair.blocks])
            for title, meaning, number, heat in ROWS
        ],
    }


def _short(block: str) -> str:
    """A block's name in the width of two digits; "text" is the text encoder."""
    return {"BASE": "text", "rest": "rest"}.get(block, block.replace("IN", "I").replace("OUT", "O"))

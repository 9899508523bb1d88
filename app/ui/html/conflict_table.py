"""The conflicts of two LoRAs as a table: one column per block, darker where they conflict more."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import TYPE_CHECKING, Any

from app.ui.html.rendering import render_template

if TYPE_CHECKING:
    from app.jobs.conflicts import ConflictReport
    from merging.analysis.conflicts import BlockConflict, PairConflict

APART = "They hardly touch each other: loading both may do as well."
MIXED = "They react to the same inputs: loading both mixes them."
# A row: title, explanation, number in the cell, and darkness of the cell from 0 to 1.
Row = tuple[str, str, Callable[["BlockConflict"], str], Callable[["BlockConflict"], float]]
ROWS: tuple[Row, ...] = (
    (
        "overlap, %",
        "how much both LoRAs react to the same inputs",
        lambda block: f"{100 * block.overlap:.0f}",
        lambda block: 2 * block.shared,
    ),
    (
        "cosine",
        "1: the same change; −1: the opposite change",
        lambda block: f"{block.cosine:.2f}".replace("0.", ".").replace("-", "−"),
        lambda block: 2 * abs(block.cosine),
    ),
    (
        "size ratio",
        "size of the first LoRA's change, divided by that of the second",
        lambda block: "∞" if block.ratio == inf else f"{block.ratio:.1f}",
        lambda block: abs(block.ratio - 1) / (block.ratio + 1) if block.ratio < inf else 1.0,
    ),
)


def conflict_table(report: ConflictReport) -> str:
    """Advice and table for every pair of LoRAs, the worst pair open; "" if there is no pair."""
    if not report.pairs and not report.notes:
        return ""
    return render_template(
        "conflicts", notes=report.notes, pairs=[_pair(pair) for pair in report.pairs]
    )


def _pair(pair: PairConflict) -> dict[str, Any]:
    from merging.analysis.conflicts import SHARED_OVERLAP, advice  # late: it imports torch

    *others, sharing = advice(pair)
    apart = pair.whole.shared < SHARED_OVERLAP
    return {
        "names": " and ".join(pair.names),
        "sentence": others[0] if others else sharing if pair.silent else APART if apart else MIXED,
        "warns": bool(others) or pair.silent or not apart,
        "advice": [*others[1:], sharing],
        "blocks": [_short_name(block.block) for block in pair.blocks],
        "rows": [
            (title, help, [(number(block), min(max(heat(block), 0), 1)) for block in pair.blocks])
            for title, help, number, heat in ROWS
        ],
    }


def _short_name(block: str) -> str:
    """A block's name for a narrow column, such as I04; "text" is the text encoder."""
    return {"BASE": "text", "rest": "rest"}.get(block, block.replace("IN", "I").replace("OUT", "O"))

"""Where LoRAs meet, as a strip of blocks: one column a block, darker where there is more of it."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from math import inf
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from app.jobs.conflicts import Met
    from merging.analysis.conflicts import Meeting, Pair

# Each row: its name, what it means, the number shown and how dark it is, from 0 to 1.
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


def conflicts(found: Met) -> str:
    """Every pair in words and as a strip, the worst one open; "" where there is no pair."""
    pairs = "".join(_pair(pair, place == 0) for place, pair in enumerate(found.pairs))
    notes = "".join(f'<p class="note">{escape(sentence)}</p>' for sentence in found.said)
    if not pairs and not notes:
        return ""
    return f'<div class="conflicts"><h3>Before you merge</h3>{notes}{pairs}</div>'


def _pair(pair: Pair, opened: bool) -> str:
    from merging.analysis.conflicts import (
        advice,  # it imports torch, which measured the pair just now
    )

    names = " and ".join(map(escape, pair.names))
    said = "".join(f"<p>{escape(sentence)}</p>" for sentence in advice(pair))
    return (
        f"<details{' open' if opened else ''}><summary>{names}</summary>{said}{_strip(pair)}"
        "</details>"
    )


def _strip(pair: Pair) -> str:
    head = "".join(f'<th scope="col">{_short(met.block)}</th>' for met in pair.blocks)
    rows = "".join(
        f'<tr><th scope="row" title="{meaning}">{name}</th>'
        + "".join(
            f'<td style="--heat:{min(max(heat(met), 0), 1):.2f}">{number(met)}</td>'
            for met in pair.blocks
        )
        + "</tr>"
        for name, meaning, number, heat in ROWS
    )
    label = f"{escape(pair.names[0])} and {escape(pair.names[1])}, block by block"
    return (
        f'<div class="strip" tabindex="0" role="region" aria-label="{label}"><table><thead><tr>'
        f"<td></td>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _short(block: str) -> str:
    """A block's name in the width of two digits; "text" is the text encoder."""
    return {"BASE": "text", "rest": "rest"}.get(block, block.replace("IN", "I").replace("OUT", "O"))

"""What a search for strengths found."""

from __future__ import annotations

from app.schemas.tuning import TuneResult
from app.ui.html.rendering import render_template


def tuning_html(result: TuneResult, address: str) -> str:
    """The verdict, a row per kind of strengths, and the picture of the search at an address."""
    rows = [
        (one.kind, "", [f"{number:.3f}" for number in (one.score, one.held_out, *one.strengths)])
        for one in result.best
    ]
    names = [pick.name for pick in result.order.merge.picks]
    titles = ("strengths", "tuned on", "held out", *names)
    return render_template(
        "tuning", verdict=result.verdict, titles=titles, rows=rows, address=address
    )

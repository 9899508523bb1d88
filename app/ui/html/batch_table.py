"""A batch's table on the page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.schemas.batch import BatchOrder, BatchResult
from app.ui.html.fragments import megabytes, paragraph
from app.ui.html.rendering import rendered

if TYPE_CHECKING:
    from merging.batch import Row

TITLES = ("merge", "rank", "size", "error left", "plain sum's", "energy kept")


def count_text(order: BatchOrder) -> str:
    """How many merges an order is, and why."""
    counts = " × ".join(f"{max(len(set(listed)), 1)}" for listed in order.strengths)
    methods = "1 method" if len(order.methods) == 1 else f"{len(order.methods)} methods"
    merges = "1 merge" if order.count == 1 else f"{order.count} merges"
    strengths = f", {counts} strengths" if counts else ""
    return paragraph("about", f"{methods}{strengths}: {merges}.")


def batch_table(made: BatchResult) -> str:
    """What was made, and what was not and why."""
    rows = [(row.stem, row.problem, _numbers(row)) for row in made.rows]
    return rendered("batch_table", titles=TITLES, rows=rows)


def _numbers(row: Row) -> tuple[str, ...]:
    """The cells beside the name, in the order of TITLES; "" for what was not measured."""
    return (
        str(row.largest_rank),
        megabytes(row.bytes / 2**20),
        *("" if value is None else f"{value:.3g}" for value in (row.error, row.sum_error)),
        "" if row.kept_energy is None else f"{row.kept_energy:.1%}",
    )

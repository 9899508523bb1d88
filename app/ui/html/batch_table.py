"""The table of a batch on the page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.schemas.batch import BatchOrder, BatchResult
from app.ui.html.fragments import megabytes, paragraph
from app.ui.html.rendering import render_template

if TYPE_CHECKING:
    from merging.batch import BatchRow

TITLES = ("merge", "rank", "size", "error", "error of a plain sum", "energy kept")


def count_text(order: BatchOrder) -> str:
    """The number of merges, and the numbers of methods and strengths that it is the product of."""
    counts = " × ".join(f"{max(len(set(values)), 1)}" for values in order.strengths)
    methods = "1 method" if len(order.methods) == 1 else f"{len(order.methods)} methods"
    merges = "1 merge" if order.count == 1 else f"{order.count} merges"
    strengths = f", {counts} strengths" if counts else ""
    return paragraph("about", f"{methods}{strengths}: {merges}.")


def batch_table(result: BatchResult) -> str:
    """A row per merge: its numbers, or why it failed."""
    rows = [(row.stem, row.problem, _numbers(row)) for row in result.rows]
    return render_template("batch_table", titles=TITLES, rows=rows)


def _numbers(row: BatchRow) -> tuple[str, ...]:
    """The cells after the name, in the order of TITLES; "" where nothing was measured."""
    return (
        str(row.largest_rank),
        megabytes(row.bytes / 2**20),
        *("" if value is None else f"{value:.3g}" for value in (row.error, row.sum_error)),
        "" if row.kept_energy is None else f"{row.kept_energy:.1%}",
    )

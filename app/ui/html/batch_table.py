"""A batch's table on the page."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from app.schemas.batch import Batched, BatchOrder
from app.ui.html import fragments as markup

if TYPE_CHECKING:
    from merging.batch import Row

TITLES = ("merge", "rank", "size", "error left", "plain sum's", "energy kept")


def count_text(order: BatchOrder) -> str:
    each = " × ".join(f"{max(len(set(listed)), 1)}" for listed in order.strengths)
    methods = "1 method" if len(order.methods) == 1 else f"{len(order.methods)} methods"
    merges = "1 merge" if order.count == 1 else f"{order.count} merges"
    strengths = f", {each} strengths" if each else ""
    return f'<p class="about">{methods}{strengths}: {merges}.</p>'


def batch_table(made: Batched) -> str:
    """What was made, and what was not and why."""
    head = "".join(f'<th scope="col">{title}</th>' for title in TITLES)
    rows = "".join(map(_row, made.rows))
    return (
        '<div class="table" tabindex="0" role="region" aria-label="The merges of the batch"><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
        '<p class="about">Error left on the prompts, where leaving the layers alone is 1; only '
        "methods that read prompts have one. The zip has these numbers in summary.csv.</p>"
    )


def _row(row: Row) -> str:
    name = f'<th scope="row">{escape(row.stem)}</th>'
    if row.problem:
        return f'<tr>{name}<td colspan="{len(TITLES) - 1}">{escape(row.problem)}</td></tr>'
    numbers = (
        str(row.largest_rank),
        markup.megabytes(row.bytes / 2**20),
        *("" if value is None else f"{value:.3g}" for value in (row.error, row.sum_error)),
        "" if row.kept_energy is None else f"{row.kept_energy:.1%}",
    )
    return f"<tr>{name}{''.join(f'<td>{number}</td>' for number in numbers)}</tr>"

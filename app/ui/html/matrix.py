"""A matrix of merges: a table of pictures, each a button that opens its merge."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from app.storage.history_matrix import KeptMatrix
from app.ui.html.rendering import render_template


class Cell(NamedTuple):
    """The picture of a merge."""

    address: str  # where the browser finds it
    entry: int | None  # its number in the history


@dataclass(frozen=True)
class Grid:
    """Pictures by the labels of their columns and rows."""

    cells: Mapping[tuple[str, str], Cell | None]
    sheet: str  # the address of all of them as one PNG

    @property
    def across(self) -> list[str]:
        """The labels of the columns."""
        return list(dict.fromkeys(column for column, _ in self.cells))

    @property
    def down(self) -> list[str]:
        """The labels of the rows."""
        return list(dict.fromkeys(row for _, row in self.cells))


def matrix_html(grid: Grid) -> str:
    """Axes as on the PNG of the matrix."""
    return render_template("matrix", grid=grid)


def kept_matrices_html(kept: Sequence[tuple[KeptMatrix, str]]) -> str:
    """The matrices of the history with the addresses of their PNGs; folded, "" without any."""
    folds = [(matrix.title, _time(matrix), _kept_grid(matrix, sheet)) for matrix, sheet in kept]
    return render_template("kept_matrices", folds=folds)


def _time(matrix: KeptMatrix) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(matrix.made))


def _kept_grid(matrix: KeptMatrix, sheet: str) -> Grid:
    """The thumbnails of its entries; nothing where one was deleted."""
    entries = {number: entry for number, entry in matrix.entries.items() if entry.thumbnails}
    cells = {
        (cell.column, cell.row): Cell(entries[cell.entry].thumbnails[-1][1], cell.entry)
        if cell.entry in entries
        else None
        for cell in matrix.cells
    }
    return Grid(cells, sheet)

"""Matrices of the history: which of its entries stand together in a grid.

A matrix has no pictures of its own but the PNG of the whole; it ends with the last of its entries.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from app.storage.history_entry import HistoryEntry

TABLE = """create table if not exists matrices (
    id integer primary key autoincrement, made real, cells text, sheet text
)"""
ENTRY = "json_extract(json_each.value, '$[2]')"
EMPTIED = f"""not exists (select 1 from json_each(cells) join moments on moments.id = {ENTRY})"""


class MatrixCell(NamedTuple):
    """A merge's place in the grid, by the labels of its column and row."""

    column: str
    row: str
    entry: int  # its number in the history


@dataclass(frozen=True)
class KeptMatrix:
    """A grid, and those of its entries that there still are."""

    made: float  # seconds since 1970
    cells: tuple[MatrixCell, ...]
    sheet: Path  # all pictures as one PNG
    entries: Mapping[int, HistoryEntry]

    @property
    def title(self) -> str:
        """Its title in lists."""
        names = [name for name, _ in next(iter(self.entries.values())).loras]
        return f"Matrix of {' + '.join(names)}, {len(self.cells)} merges"


def insert(connection: sqlite3.Connection, cells: Sequence[MatrixCell], sheet: str) -> None:
    """Add a matrix; ``sheet`` is the stored name of its PNG."""
    row = (time.time(), json.dumps(cells), sheet)
    connection.execute("insert into matrices (made, cells, sheet) values (?, ?, ?)", row)


def newest(
    connection: sqlite3.Connection, count: int
) -> list[tuple[float, tuple[MatrixCell, ...], str]]:
    """When they were made, their cells, and the stored name of their PNG."""
    rows = connection.execute(
        "select made, cells, sheet from matrices order by id desc limit ?", (count,)
    )
    return [
        (made, tuple(MatrixCell(*cell) for cell in json.loads(cells)), sheet)
        for made, cells, sheet in rows
    ]


def drop_emptied(connection: sqlite3.Connection) -> list[str]:
    """Remove the matrices without any entry; returns the stored names of their PNGs."""
    found = connection.execute(f"select sheet from matrices where {EMPTIED}").fetchall()
    connection.execute(f"delete from matrices where {EMPTIED}")
    return [sheet for (sheet,) in found]


def sheets(connection: sqlite3.Connection) -> set[str]:
    """The stored names of all PNGs."""
    return {sheet for (sheet,) in connection.execute("select sheet from matrices")}

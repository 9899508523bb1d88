"""The small SQLite files in which the library and the history find what they keep."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from merging.errors import MergeError


@contextmanager
def index(path: Path, table: str, whose: str) -> Iterator[sqlite3.Connection]:
    """The index at ``path``, made with ``table`` where it is new, and saved at the end.

    Raises OSError when the disk is full and MergeError when the file cannot be used; ``whose``
    begins that sentence.
    """
    try:
        with closing(sqlite3.connect(path, timeout=10)) as found, found:
            found.execute(table)
            yield found
    except sqlite3.OperationalError as error:
        if getattr(error, "sqlite_errorname", "") == "SQLITE_FULL":  # Python 3.10 has no such name
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
        raise MergeError(
            f"{whose} index {path.name} cannot be used just now ({error}); try again."
        ) from error
    except sqlite3.DatabaseError as error:
        raise MergeError(
            f"{whose} index {path.name} cannot be read ({error}); delete it, and what is kept "
            "there begins anew."
        ) from error


def add_column(index: sqlite3.Connection, table: str, column: str, kind: str) -> None:
    """Give an index of before a column that it does not have yet."""
    if column not in {row[1] for row in index.execute(f"pragma table_info({table})")}:
        index.execute(f"alter table {table} add column {column} {kind}")

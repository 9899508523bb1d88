"""SQLite index files of the library and the history."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from merging.errors import MergeError


@contextmanager
def index(path: Path, table: str, owner: str) -> Iterator[sqlite3.Connection]:
    """A connection to the index at ``path``, committed at the end; ``table`` makes a new one.

    Raises OSError if the disk is full and MergeError if the file cannot be used; ``owner`` begins
    its text.
    """
    try:
        with closing(sqlite3.connect(path, timeout=10)) as connection, connection:
            connection.execute(table)
            yield connection
    except sqlite3.OperationalError as error:
        _raise_if_full(error)
        raise MergeError(
            f"{owner} index {path.name} cannot be used now ({error}); try again."
        ) from error
    except sqlite3.DatabaseError as error:
        raise MergeError(
            f"{owner} index {path.name} cannot be read ({error}); delete it to start a new one."
        ) from error


@contextmanager
def exclusive(folder: Path, owner: str) -> Iterator[None]:
    """Nobody else, in this process or another, changes the files of a folder meanwhile.

    The lock is SQLite's, on an empty file: it works on all systems, and ends with the process.
    """
    try:
        with closing(sqlite3.connect(_lock(folder), timeout=30, isolation_level=None)) as lock:
            lock.execute("begin exclusive")
            yield
    except sqlite3.Error as error:
        _raise_if_full(error)
        raise MergeError(
            f"{owner} folder is in use or cannot be written ({error}); try again."
        ) from error


def _raise_if_full(error: sqlite3.Error) -> None:
    """OSError if the disk is full; Python 3.10 does not tell."""
    if getattr(error, "sqlite_errorname", "") == "SQLITE_FULL":
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error


def _lock(folder: Path) -> Path:
    """The file that is locked, beside the folder."""
    return folder.with_name(f".{folder.name}.lock")


def add_column(connection: sqlite3.Connection, table: str, column: str, kind: str) -> None:
    """Add a column to an older index that lacks it."""
    if column not in {row[1] for row in connection.execute(f"pragma table_info({table})")}:
        connection.execute(f"alter table {table} add column {column} {kind}")

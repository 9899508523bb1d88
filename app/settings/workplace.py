"""The folder of all visitors' files, and the removal of those that killed apps have left."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path

PREFIX = "iteris-studio-"
LOCK = ".in-use"  # locked as long as its app runs, whatever ends it
BEGINNING = 60.0  # s, in which a new app has locked its folder


@contextmanager
def workplace(environ: Mapping[str, str] = os.environ) -> Iterator[Path]:
    """The folder of all visitors' files: ITERIS_WORK, or one that is removed in the end."""
    folder_name = environ.get("ITERIS_WORK")
    if folder_name:
        yield Path(folder_name).resolve()
        return
    remove_left(Path(tempfile.gettempdir()))
    with (
        tempfile.TemporaryDirectory(prefix=PREFIX, ignore_cleanup_errors=True) as temporary,
        closing(sqlite3.connect(Path(temporary) / LOCK, isolation_level=None)) as lock,
    ):
        lock.execute("begin exclusive")
        yield Path(temporary)


def remove_left(parent: Path, beginning: float = BEGINNING) -> None:
    """Remove the temporary folders of apps that were killed, those of this user."""
    for folder in parent.glob(f"{PREFIX}*"):
        with suppress(OSError):  # another user's, or another app removes it just now
            if time.time() - (folder / LOCK).stat().st_mtime > beginning and not _in_use(folder):
                shutil.rmtree(folder)


def _in_use(folder: Path) -> bool:
    """Whether an app has the folder's lock, which is SQLite's: it works on all systems."""
    try:
        with closing(sqlite3.connect(folder / LOCK, timeout=0, isolation_level=None)) as lock:
            lock.execute("begin exclusive")
    except sqlite3.Error:
        return True
    return False

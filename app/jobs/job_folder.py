"""The folder of one job: counted when the job has ended, and removed if it gave nothing."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from app.jobs.queue import Step


def with_folder(
    folder: Path, items: Generator[object, None, None], note: Callable[[int], None]
) -> Generator[object, None, None]:
    """The items of a job that writes into ``folder``; ``note`` is told the bytes of its files.

    Of a job that was stopped after its first pictures, these stay.
    """
    results = 0
    try:
        with closing(items):
            for item in items:
                results += not isinstance(item, Step)
                yield item
    finally:
        if results:
            note(folder_bytes(folder))
        else:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def new_files(folder: Path, note: Callable[[int], None]) -> Iterator[Path]:
    """The same for work without steps."""
    try:
        yield folder
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    note(folder_bytes(folder))


def folder_bytes(folder: Path) -> int:
    """The size of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())

"""Zip files whose bytes depend on their content alone: fixed times, no compression.

Adapters and PNGs hardly compress. An archive is written completely or not at all.
"""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from merging.io.atomic_write import replacing, synced_file

MODE = 0o644 << 16  # of every file inside


class Archive:
    """A zip being written."""

    def __init__(self, zip_file: zipfile.ZipFile) -> None:
        self._zip_file = zip_file

    def add(self, name: str, content: Path | bytes) -> None:
        """Add a file from the disk or from memory, with the same fixed time as all others."""
        entry = zipfile.ZipInfo(name)
        entry.external_attr = MODE
        if isinstance(content, bytes):
            self._zip_file.writestr(entry, content)
            return
        entry.file_size = content.stat().st_size  # so that it may be larger than 2 GiB
        with content.open("rb") as source, self._zip_file.open(entry, "w") as target:
            shutil.copyfileobj(source, target, 1 << 20)


@contextmanager
def archive(path: Path) -> Iterator[Archive]:
    """A zip at ``path``, which exists only if no error was raised inside.

    Raises MergeError, with the file's name, if it cannot be written.
    """
    with (
        replacing(path, path.name, "make room") as temporary,
        synced_file(temporary) as stream,
        zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as zip_file,
    ):
        yield Archive(zip_file)

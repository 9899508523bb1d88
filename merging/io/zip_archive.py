"""Zip files whose bytes depend on their content alone: fixed times, and nothing compressed.

Adapters and PNGs hardly shrink. An archive appears whole or not at all.
"""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from merging.io.atomic_write import appearing, synced

MODE = 0o644 << 16  # of every file inside


class Archive:
    """A zip being written."""

    def __init__(self, bundle: zipfile.ZipFile) -> None:
        self._bundle = bundle

    def add(self, name: str, content: Path | bytes) -> None:
        """Put a file in, from the disk or from memory; its time is that of every other."""
        entry = zipfile.ZipInfo(name)
        entry.external_attr = MODE
        if isinstance(content, bytes):
            self._bundle.writestr(entry, content)
            return
        entry.file_size = content.stat().st_size  # so that it may be larger than 2 GiB
        with content.open("rb") as source, self._bundle.open(entry, "w") as target:
            shutil.copyfileobj(source, target, 1 << 20)


@contextmanager
def archive(path: Path) -> Iterator[Archive]:
    """A zip at ``path``, which is there once all went well; what is raised inside comes through.

    Raises MergeError, with the name alone, where it cannot be written.
    """
    with (
        appearing(path, path.name, "make room") as beside,
        synced(beside) as stream,
        zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as bundle,
    ):
        yield Archive(bundle)

"""Uploads: room for them, and the removal of those that broke off."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from app.storage.room import NoRoom, Room

__all__ = ["NoRoom", "Uploads"]


class Uploads:
    """The uploads that are being received into Gradio's folder.

    Gradio writes an upload into the folder itself and moves it, when it is whole, into a folder of
    its own. So a file that lay there when the oldest of the running uploads began has broken off.
    """

    def __init__(self, folder: Path, room: Room) -> None:
        self._folder = folder
        self._room = room
        self._earlier: list[frozenset[Path]] = []  # by each running upload, when it began

    @contextmanager
    def receiving(self, client: str, declared: int) -> Iterator[Callable[[int], None]]:
        """Call the function with the size of every piece; NoRoom if there is none for it."""
        self._room.check(client, declared)
        parts = self._parts()
        self._earlier.append(parts)
        try:
            yield lambda size: self._room.take(client, size)
        finally:
            self._earlier.remove(parts)
            for path in self._earlier[0] if self._earlier else self._parts():
                path.unlink(missing_ok=True)

    def _parts(self) -> frozenset[Path]:
        """The files of the folder that are being received, or have broken off."""
        paths = self._folder.iterdir() if self._folder.is_dir() else ()
        return frozenset(path for path in paths if path.is_file())

"""Uploads: room for them, and the removal of those that broke off."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from app.storage.room import NoRoom, Room

__all__ = ["NoRoom", "Uploads"]
CLOCK_SLACK = 1.0  # s: the kernel's time of a file may lag behind ours


class Uploads:
    """The uploads that are being received into Gradio's folder.

    Gradio writes an upload into the folder itself and moves it, when it is whole, into a folder of
    its own. So a file that lies there and is older than every running upload has broken off.
    """

    def __init__(self, folder: Path, room: Room) -> None:
        self._folder = folder
        self._room = room
        self._begun: list[float] = []  # time.time() of the running uploads

    @contextmanager
    def receiving(self, client: str, declared: int) -> Iterator[Callable[[int], None]]:
        """Call the function with the size of every piece; NoRoom if there is none for it."""
        self._room.check(client, declared)
        begun = time.time()
        self._begun.append(begun)
        try:
            yield lambda size: self._room.take(client, size)
        finally:
            self._begun.remove(begun)
            self._remove_broken()

    def _remove_broken(self) -> None:
        oldest = min(self._begun, default=float("inf")) - CLOCK_SLACK
        for path in self._folder.iterdir() if self._folder.is_dir() else ():
            try:
                if path.is_file() and path.stat().st_mtime < oldest:
                    path.unlink()
            except FileNotFoundError:
                continue  # moved just now

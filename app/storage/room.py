"""Room on the disk: how many bytes each client and all together may bring, and a floor."""

from __future__ import annotations

import shutil
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

from app.settings.model import Settings
from merging.errors import MergeError

RECENT = 60.0  # s


class NoRoom(MergeError):
    """There is no room for more files; the sentence says whose limit it is."""


class Room:
    """The bytes that clients brought or had made, which count until their files are removed.

    Kept in memory: files of visits do not outlive the app's own knowledge of them by much, since
    the janitor removes them after ``keep_seconds`` without use.
    """

    def __init__(
        self,
        folder: Path,
        per_client: int,
        overall: int,
        floor: int,
        keep_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``per_client``, ``overall`` and ``floor``, the space to leave free, in bytes."""
        self._folder = folder
        self._per_client = per_client
        self._overall = overall
        self._floor = floor
        self._keep = keep_seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._taken: deque[tuple[float, str, int]] = deque()  # (time, client, bytes), oldest first
        self._totals: dict[str, int] = {}

    def check(self, client: str, size: int = 0) -> None:
        """NoRoom if ``size`` further bytes of this client are too many."""
        with self._lock:
            self._expire()
            self._check(client, size)

    def take(self, client: str, size: int) -> None:
        """Count bytes; NoRoom if they are too many."""
        with self._lock:
            self._expire()
            self._check(client, size)
            self._note(client, size)

    def note(self, client: str, size: int) -> None:
        """Count bytes that are on the disk already, as a job's files are, within limits or not."""
        with self._lock:
            self._expire()
            self._note(client, size)

    @property
    def total(self) -> int:
        """The bytes of all clients."""
        with self._lock:
            self._expire()
            return sum(self._totals.values())

    def _note(self, client: str, size: int) -> None:
        """Add to the client's last entry if that is recent: uploads come in many pieces."""
        now = self._clock()
        if self._taken and self._taken[-1][1] == client and now - self._taken[-1][0] < RECENT:
            began, _, before = self._taken.pop()
            self._taken.append((began, client, before + size))
        else:
            self._taken.append((now, client, size))
        self._totals[client] = self._totals.get(client, 0) + size

    def _check(self, client: str, size: int) -> None:
        if self._totals.get(client, 0) + size > self._per_client:
            raise NoRoom(
                f"Your files here have reached {_megabytes(self._per_client)} MB, the limit of one "
                f"visitor; they are removed after {self._keep / 3600:g} hours. Try again then."
            )
        if sum(self._totals.values()) + size > self._overall:
            raise NoRoom(
                f"The files of all visitors have reached {_megabytes(self._overall)} MB, the limit "
                "here; try again later."
            )
        if shutil.disk_usage(self._folder).free - size < self._floor:
            raise NoRoom(
                f"Less than {_megabytes(self._floor)} MB would stay free on the disk of this "
                "machine: delete old files or pictures, or try again later."
            )

    def _expire(self) -> None:
        """Forget bytes whose files the janitor has removed by now."""
        oldest = self._clock() - self._keep
        while self._taken and self._taken[0][0] < oldest:
            _, client, size = self._taken.popleft()
            self._totals[client] -= size
            if not self._totals[client]:
                del self._totals[client]


def room_of(settings: Settings) -> Room:
    """The room that the settings give; at home one person may take all of it."""
    overall = settings.max_work_mb * 2**20
    return Room(
        settings.work,
        overall if settings.private else settings.max_client_mb * 2**20,
        overall,
        settings.min_free_mb * 2**20,
        3600 * settings.keep_hours,
    )


def _megabytes(size: int) -> int:
    return size // 2**20

"""Seconds and peak memory of the parts of a job, each part counted without the parts inside it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import torch

STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass
class Phase:
    """One part of a job so far."""

    seconds: float = 0.0
    peak_bytes: int | None = None  # of the process and its GPU; None if the system reports none


class Phases:
    """Call it with a name to open a part: ``with phases("sampling"): …``; parts may nest."""

    def __init__(self) -> None:
        self.parts: dict[str, Phase] = {}
        self._open: list[str] = []
        self._since = time.perf_counter()

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Count time and memory of the ``with`` block as part ``name``."""
        self._record()
        self._open.append(name)
        try:
            yield
        finally:
            self._record()
            self._open.pop()

    def _record(self) -> None:
        """Add the time since the last change, and its peak, to the innermost part."""
        now = time.perf_counter()
        if self._open:
            part = self.parts.setdefault(self._open[-1], Phase())
            part.seconds += now - self._since
            peak = peak_bytes()
            if peak is not None:
                part.peak_bytes = max(peak, part.peak_bytes or 0)
        self._since = now
        reset_peak()


def peak_bytes() -> int | None:
    """Most memory used since the last reset: of the process, plus that on its GPU."""
    on_gpu = torch.cuda.max_memory_allocated() if torch.cuda.is_initialized() else 0
    try:
        lines = STATUS.read_text(encoding="ascii").splitlines()
    except OSError:
        return on_gpu or None
    [peak] = [int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")]
    return peak + on_gpu


def mebibytes(count: int | None) -> str:
    """A number of bytes as text."""
    return "not reported by this system" if count is None else f"{count / 2**20:,.0f} MiB"


@dataclass
class PeakWatch:
    """The most memory beyond what there was at its start, whoever resets the peak meanwhile."""

    start: int
    most: int | None = None  # None if the system reports none

    def note(self) -> None:
        """Count the memory since the last reset."""
        peak = peak_bytes()
        if peak is not None:
            self.most = max(self.most or 0, peak - self.start)


_watches: list[PeakWatch] = []  # those that are open


@contextmanager
def watching_peak() -> Iterator[PeakWatch]:
    """Watch the memory of the ``with`` block."""
    reset_peak()
    watch = PeakWatch(peak_bytes() or 0)
    _watches.append(watch)
    try:
        yield watch
    finally:
        watch.note()
        _watches.remove(watch)


def reset_peak() -> None:
    """Reset the peak; systems other than Linux cannot, and report the peak of the whole run."""
    for watch in _watches:
        watch.note()
    if torch.cuda.is_initialized():
        torch.cuda.reset_peak_memory_stats()
    with suppress(OSError):
        RESET.write_text("5", encoding="ascii")

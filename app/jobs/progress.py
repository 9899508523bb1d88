"""Progress of the library as Steps of a job."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from app.jobs.queue import Step
from merging.report import LayerReport
from merging.runtime.progress import Progress

Emit = Callable[[object], None]


class ProgressReporter:
    """A merge's progress and its solved layers, both as Steps."""

    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        self._step = Step(0.0, "Starting")

    def progress(self, share: float, text: str) -> None:
        """The library's words, as a sentence's start."""
        self._step = Step(share, text[:1].upper() + text[1:])
        self._emit(self._step)

    def watch(self, row: LayerReport, count: int) -> None:
        """The same Step, with the layer that is done, one of ``count``."""
        self._emit(replace(self._step, solved=row, layers=count))


def stepping(emit: Emit) -> Progress:
    """The library's progress as Steps for the executor; its text becomes a sentence's start."""
    return ProgressReporter(emit).progress

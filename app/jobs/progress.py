"""The progress of a job."""

from __future__ import annotations

from dataclasses import replace

from app.jobs.job_thread import Emit
from app.jobs.queue import Step
from merging.report import LayerReport
from merging.runtime.progress import Progress


class ProgressReporter:
    """A merge's progress and its solved layers, both as Steps."""

    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        self._step = Step(0.0, "Starting")

    def progress(self, share: float, text: str) -> None:
        """Emit a Step; its text begins with a capital."""
        self._emit_step(share, text)

    def watch(self, row: LayerReport, count: int) -> None:
        """Emit the last Step again, with a solved layer, one of ``count``."""
        self._emit(replace(self._step, solved=row, layers=count))

    def _emit_step(self, share: float, text: str, left: float | None = None) -> None:
        self._step = Step(share, text[:1].upper() + text[1:], left=left)
        self._emit(self._step)


def report_steps(emit: Emit) -> Progress:
    """A progress function that emits Steps."""
    return ProgressReporter(emit).progress

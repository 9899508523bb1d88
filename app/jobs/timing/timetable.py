"""The progress of a job in several stages, by the time that they take on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from app.jobs.progress import Emit, ProgressReporter
from app.jobs.timing.pace import Stage, estimate
from merging.runtime.progress import Progress

# A stage's own share tells better than its cost how long it takes, once it has come so far.
TELLING_SHARE = 0.33
# Before another stage has ended, the first one tells nothing until it has come so far.
FIRST_SHARE = 0.2


class Timetable(ProgressReporter):
    """Steps of a whole job, whose share is that of its time.

    What a unit of cost takes is known from the stages that have ended, those of the same kind
    first.
    """

    def __init__(
        self, emit: Emit, stages: Sequence[Stage], clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(emit)
        self._stages = [replace(stage) for stage in stages]
        self._clock = clock
        self._began = clock()  # the running stage
        self._place = -1

    def next_stage(self) -> Progress:
        """End the running stage and begin the next one; returns its progress."""
        self._end_stage()
        self._place += 1
        self._began = self._clock()
        return self._report

    def end(self) -> list[Stage]:
        """End the last stage; returns all, with the seconds that they took."""
        self._end_stage()
        return self._stages

    def _end_stage(self) -> None:
        if self._place >= 0:
            self._running.seconds, self._running.share = self._clock() - self._began, 1.0

    @property
    def _running(self) -> Stage:
        return self._stages[self._place]

    def _report(self, share: float, text: str) -> None:
        self._running.seconds, self._running.share = self._clock() - self._began, share
        left = self._seconds_left()
        past = sum(stage.seconds for stage in self._stages)
        if left is None:
            whole = sum(stage.cost for stage in self._stages)
            total_share = share * self._running.cost / whole
        else:
            total_share = past / (past + left) if past else 0.0
        self._emit_step(max(self._step.share, min(total_share, 1.0)), text, left)

    def _seconds_left(self) -> float | None:
        """None while nothing tells how long the stages take."""
        ended, running = self._stages[: self._place], self._running
        if not ended and running.share < FIRST_SHARE:
            return None
        whole = self._whole_seconds()
        measured = [*ended, replace(running, seconds=whole)]
        later = self._stages[self._place + 1 :]
        return whole - running.seconds + sum(estimate(stage, measured) for stage in later)

    def _whole_seconds(self) -> float:
        """How long the running stage takes: by the others at first, then by its own share."""
        running, ended = self._running, self._stages[: self._place]
        by_share = running.seconds / running.share if running.share else 0.0
        if not ended:
            return by_share
        weight = min(running.share / TELLING_SHARE, 1.0)
        guess = (1 - weight) * estimate(running, ended) + weight * by_share
        return max(guess, running.seconds)

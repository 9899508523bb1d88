"""The progress of a job in several stages, by the time that they take on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from app.jobs.progress import Emit, ProgressReporter
from merging.runtime.progress import Progress

# A stage's own share tells better than its cost how long it takes, once it has come so far.
TELLING_SHARE = 0.33
# Before another stage has ended, the first one tells nothing until it has come so far.
FIRST_SHARE = 0.2


@dataclass
class Stage:
    """A part of a job."""

    kind: str  # stages of one kind take time in proportion to their costs
    cost: float  # beside that of the other stages
    seconds: float = 0.0  # that it has taken
    share: float = 0.0  # of it that is done


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
        if self._place >= 0:
            self._running.seconds, self._running.share = self._clock() - self._began, 1.0
        self._place += 1
        self._began = self._clock()
        return self._report

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
        return whole - running.seconds + sum(_estimate(stage, measured) for stage in later)

    def _whole_seconds(self) -> float:
        """How long the running stage takes: by the others at first, then by its own share."""
        running, ended = self._running, self._stages[: self._place]
        by_share = running.seconds / running.share if running.share else 0.0
        if not ended:
            return by_share
        weight = min(running.share / TELLING_SHARE, 1.0)
        guess = (1 - weight) * _estimate(running, ended) + weight * by_share
        return max(guess, running.seconds)


def _estimate(stage: Stage, measured: Sequence[Stage]) -> float:
    """Seconds of a stage by the speed of measured ones, those of its kind if there are any."""
    alike = [other for other in measured if other.kind == stage.kind] or measured
    return stage.cost * sum(one.seconds for one in alike) / sum(one.cost for one in alike)

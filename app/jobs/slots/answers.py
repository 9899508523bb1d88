"""What a worker in another process sends back: plain data, errors too."""

from __future__ import annotations

import os
import threading
import traceback
from collections.abc import Generator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

from app.jobs.job_thread import JobThread
from app.schemas.task import Task
from merging.errors import Cancelled, FileError, MergeError

if TYPE_CHECKING:
    from app.jobs.engine import Engine

TICK = 0.1  # seconds; how often a worker looks whether it is to stop


@dataclass(frozen=True)
class Failure:
    """An exception as data."""

    kind: Literal["stopped", "refused", "system", "memory", "defect"]
    text: str  # for the visitor, or of a defect its traceback for the log
    number: int = 0  # of the operating system's error, if there is one

    @classmethod
    def of(cls, error: Exception) -> Failure:
        """The exception that is being handled."""
        if isinstance(error, Cancelled):
            return cls("stopped", str(error))
        if isinstance(error, FileError):
            return cls("refused", str(error), error.system.errno or 0)
        if isinstance(error, MergeError):
            return cls("refused", str(error))
        if isinstance(error, OSError) and error.errno:
            return cls("system", str(error), error.errno)
        if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
            return cls("memory", str(error))
        return cls("defect", traceback.format_exc())

    def exception(self) -> Exception:
        """The same exception in this process."""
        system = OSError(self.number, os.strerror(self.number))
        if self.kind == "refused":
            return FileError(self.text, system) if self.number else MergeError(self.text)
        if self.kind == "system":
            return system
        kinds = {"stopped": Cancelled, "memory": MemoryError, "defect": RuntimeError}
        return kinds[self.kind](self.text)


@dataclass(frozen=True)
class Ended:
    """The last answer to every task."""

    failure: Failure | None = None

    def check(self) -> None:
        """Raise what the work has raised."""
        if self.failure:
            raise self.failure.exception()


def answers(engine: Engine, task: Task, stop: threading.Event) -> Generator[object, None, None]:
    """Yield what the task emits, None in every silent TICK, and Ended once its work has ended."""
    thread = JobThread(partial(engine.perform, task), stop)
    thread.start()
    try:
        yield from thread.reports(TICK)
        yield Ended()
    except Exception as error:  # noqa: BLE001 -- raised again where the answers arrive
        yield Ended(Failure.of(error))

"""What a worker in another process sends back: plain data, errors too."""

from __future__ import annotations

import threading
from collections.abc import Generator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from app.jobs.job_thread import JobThread
from app.schemas.task import Task
from merging.workers.failure import Failure

if TYPE_CHECKING:
    from app.jobs.engine import Engine

TICK = 0.1  # seconds; how often a worker looks whether it is to stop


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

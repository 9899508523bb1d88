"""The slot of the app's own process: one job at a time, with nothing in between."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from app.jobs.job_thread import Emit
from app.schemas.task import Task
from merging.runtime.progress import Stop

if TYPE_CHECKING:
    from app.jobs.engine import Engine


class Here:
    """Works in the job's own thread, with the engine that page and API use too."""

    def __init__(self, engine: Callable[[], Engine]) -> None:
        """``engine`` is asked for when first needed, since its imports take seconds."""
        self._engine = engine

    def perform(self, task: Task, emit: Emit, stop: Stop) -> None:
        """As `Slot.perform`; it loses no worker."""
        self._engine().perform(task, emit, stop)

    def close(self) -> None:
        """Nothing to end: the job's thread has been waited for."""

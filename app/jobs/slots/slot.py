"""A slot: what does one task at a time, here or in another process."""

from __future__ import annotations

from typing import Protocol

from app.jobs.job_thread import Emit
from app.schemas.task import Task
from merging.runtime.progress import Stop


class WorkerLost(Exception):
    """The process that worked on a task has ended; the slot gets another one when next used."""


class Slot(Protocol):
    """The way to a worker. Used by one job at a time."""

    def perform(self, task: Task, emit: Emit, stop: Stop) -> None:
        """Emit every Step and result of a task; returns or raises when its work has ended.

        Raises MergeError, Cancelled after a stop, and WorkerLost.
        """

    def close(self) -> None:
        """End the worker, whatever it does."""

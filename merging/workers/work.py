"""What workers and their work have in common."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Protocol

from merging.errors import MergeError

ATTEMPTS = 2  # at a task whose worker ends: a task that kills its workers is given up


class Work(Protocol):
    """Plain data that pickles. A worker keeps it, so what it loads when first needed stays."""

    def do(self, number: int) -> Any:
        """The answer to one task: plain data too, and the same whoever does it."""


class Workers(Protocol):
    """Some processes that do one task at a time each."""

    def answers(self, work: Work, numbers: Iterable[int]) -> Iterator[tuple[int, Any]]:
        """Yield each task's number and answer as they are done, in any order.

        What a task raises is raised here; MergeError too if it has lost ATTEMPTS workers. Closing
        the iterator ends what is at work.
        """


def given_up(number: int) -> MergeError:
    """Why a task is not tried again."""
    return MergeError(
        f"The worker of task {number + 1} ended {ATTEMPTS} times before it was done, perhaps for "
        "want of memory: use fewer slots, or smaller merges and pictures."
    )

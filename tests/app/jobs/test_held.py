"""Jobs that outlive the page that began them."""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import closing

import pytest

from app.jobs.held import HeldJobs
from app.jobs.queue import Step
from merging.errors import MergeError

WAIT = 10.0  # seconds, at most


class Work:
    """A job that yields what it is told to, and knows whether it was stopped."""

    def __init__(self) -> None:
        self.go, self.stopped = threading.Semaphore(0), threading.Event()

    def items(self) -> Generator[object, None, None]:
        try:
            for number in range(4):
                assert self.go.acquire(timeout=WAIT)
                yield Step(number / 4, f"{number}")
                yield number
            raise MergeError("and that was all")
        finally:
            self.stopped.set()


def test_who_comes_later_gets_everything_and_the_end() -> None:
    """Steps that are past are left out; a job that was followed to its end is let go."""
    held, work = HeldJobs(WAIT), Work()
    job = held.begin("ann", "the order", work.items())
    work.go.release()
    with closing(held.follow("ann", job)) as first:
        assert 0 in first
    assert held.of("ann") is job and not work.stopped.is_set()
    assert held.of("bob") is None
    work.go.release(3)
    assert work.stopped.wait(WAIT)
    found = []
    with pytest.raises(MergeError, match="that was all"):
        for item in held.follow("ann", job):
            found.append(item)
    assert [item for item in found if isinstance(item, int)] == [0, 1, 2, 3]
    assert not any(isinstance(item, Step) for item in found)
    assert held.of("ann") is None


def test_a_job_that_nobody_follows_is_stopped() -> None:
    held, work = HeldJobs(0.0), Work()
    job = held.begin("ann", "the order", work.items())
    with closing(held.follow("ann", job)) as first:
        work.go.release()
        assert 0 in first
        work.go.release()
        assert not work.stopped.wait(0.2)
    work.go.release()
    assert work.stopped.wait(WAIT)
    assert job.order == "the order"


def test_a_refused_second_job_does_not_hide_the_first() -> None:
    held, work, other = HeldJobs(WAIT), Work(), Work()
    first = held.begin("ann", "first", work.items())
    held.begin("ann", "second", other.items())
    assert held.of("ann") is first
    for each in (work, other):
        each.go.release(4)
        assert each.stopped.wait(WAIT)

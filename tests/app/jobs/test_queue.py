"""The line of jobs: order, stopping, and that a worker has ended before the next one starts."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator
from typing import Any

import pytest

from app.jobs.job_thread import Emit, Work
from app.jobs.line import Line
from app.jobs.queue import Executor, Step
from app.schemas.task import Task
from merging.errors import Cancelled, MergeError
from merging.runtime.progress import Stop

TICK = 0.02


class Calls:
    """A slot whose tasks are functions."""

    def perform(self, task: Task, emit: Emit, stop: Stop) -> None:
        work: Any = task.order
        work(emit, stop)

    def close(self) -> None:
        """Nothing to end."""


def task(work: Work) -> Task:
    return Task("merge", work)  # type: ignore[arg-type]


def executor_of(*arguments: Any, **options: Any) -> Executor:
    return Executor([Calls()], *arguments, **options)


@pytest.fixture
def executor() -> Executor:
    return executor_of(Line(max_waiting=2), max_minutes=1, tick=TICK)


def patient(emit: Emit, stop: Stop) -> None:
    """Work that ends only when it is told to."""
    emit(Step(0.5, "Working"))
    while not stop():
        time.sleep(TICK / 4)
    raise Cancelled("stopped")


def started(executor: Executor, owner: str) -> Generator[object, None, None]:
    """A patient job that is at work."""
    job = executor.run(owner, task(patient))
    while not (isinstance(step := next(job), Step) and step.text == "Working"):
        pass
    return job


def workers() -> int:
    return sum(thread.name == "iteris-job" for thread in threading.enumerate())


def test_every_result_comes_in_order_and_of_many_steps_a_few(executor: Executor) -> None:
    def work(emit: Emit, _stop: Stop) -> None:
        for part in range(1000):
            emit(Step(part / 1000, str(part)))
            emit(part)

    reports = list(executor.run("a", task(work)))
    assert [report for report in reports if isinstance(report, int)] == [*range(1000)]
    steps = [report for report in reports if isinstance(report, Step)]
    assert 1 <= len(steps) < 500, "each costs a page an update"
    assert [step.share for step in steps] == sorted(step.share for step in steps)


def test_an_error_reaches_whoever_waits(executor: Executor) -> None:
    def work(_emit: Emit, _stop: Stop) -> None:
        raise MergeError("bad file")

    with pytest.raises(MergeError, match="bad file"):
        list(executor.run("a", task(work)))


def test_stop_ends_the_owners_job_and_no_other(executor: Executor) -> None:
    job = started(executor, "a")
    assert not executor.stop("b")
    next(job)
    assert executor.stop("a")
    with pytest.raises(Cancelled):
        list(job)
    assert workers() == 0


def test_closing_waits_until_the_worker_has_ended(executor: Executor) -> None:
    job = started(executor, "a")
    assert workers() == 1
    job.close()
    assert workers() == 0


def test_the_next_in_line_waits_and_then_works(executor: Executor) -> None:
    first, second = started(executor, "a"), executor.run("b", task(patient))
    waiting = next(second)
    assert isinstance(waiting, Step)
    assert waiting.text == "Waiting: one job is before yours"
    assert workers() == 1
    first.close()
    while not (isinstance(step := next(second), Step) and step.text == "Working"):
        pass
    assert workers() == 1
    second.close()


def test_stop_reaches_a_job_in_line(executor: Executor) -> None:
    first, second = started(executor, "a"), executor.run("b", task(patient))
    next(second)
    executor.stop("b")
    with pytest.raises(Cancelled):
        list(second)
    next(first)
    first.close()


def test_one_job_per_visitor(executor: Executor) -> None:
    job = started(executor, "a")
    with pytest.raises(MergeError, match="still running"):
        next(executor.run("a", task(patient)))
    job.close()
    started(executor, "a").close()


def test_a_full_line_is_reported(executor: Executor) -> None:
    jobs = [
        started(executor, "a"),
        executor.run("b", task(patient)),
        executor.run("c", task(patient)),
    ]
    next(jobs[1])
    next(jobs[2])
    with pytest.raises(MergeError, match="Too many"):
        next(executor.run("d", task(patient)))
    for job in reversed(jobs):
        job.close()


def test_a_job_that_takes_too_long_is_ended() -> None:
    executor = executor_of(max_minutes=0.1 / 60, tick=TICK)
    with pytest.raises(MergeError, match="longer than"):
        list(executor.run("a", task(patient)))
    assert workers() == 0


def test_closing_stops_the_worker_and_waits_for_it(executor: Executor) -> None:
    job = started(executor, "a")
    assert workers() == 1
    executor.close(patience=10)
    assert workers() == 0
    with pytest.raises(Cancelled):
        list(job)


def test_nothing_begins_once_it_is_closed(executor: Executor) -> None:
    executor.close(patience=10)
    with pytest.raises(Cancelled, match="before it began"):
        list(executor.run("a", task(patient)))
    assert workers() == 0

"""The line of jobs: order, stopping, and that a worker has ended before the next one starts."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator

import pytest

from app.jobs.line import Line
from app.jobs.queue import LocalExecutor, Step
from merging.errors import Cancelled, MergeError
from merging.runtime.progress import Stop

TICK = 0.02


@pytest.fixture
def executor() -> LocalExecutor:
    return LocalExecutor(Line(max_waiting=2), max_minutes=1, tick=TICK)


def patient(emit: Callable[[object], None], stop: Stop) -> None:
    """Work that ends only when it is told to."""
    emit(Step(0.5, "Working"))
    while not stop():
        time.sleep(TICK / 4)
    raise Cancelled("stopped")


def started(executor: LocalExecutor, owner: str) -> Generator[object, None, None]:
    """A patient job that is at work."""
    job = executor.run(owner, patient)
    while not (isinstance(step := next(job), Step) and step.text == "Working"):
        pass
    return job


def workers() -> int:
    return sum(thread.name == "iteris-job" for thread in threading.enumerate())


def test_every_result_comes_in_order_and_of_many_steps_a_few(executor: LocalExecutor) -> None:
    def work(emit: Callable[[object], None], _stop: Stop) -> None:
        for part in range(1000):
            emit(Step(part / 1000, str(part)))
            emit(part)

    reports = list(executor.run("a", work))
    assert [report for report in reports if isinstance(report, int)] == [*range(1000)]
    steps = [report for report in reports if isinstance(report, Step)]
    assert 1 <= len(steps) < 500, "each costs a page an update"
    assert [step.share for step in steps] == sorted(step.share for step in steps)


def test_an_error_reaches_whoever_waits(executor: LocalExecutor) -> None:
    def work(_emit: Callable[[object], None], _stop: Stop) -> None:
        raise MergeError("bad file")

    with pytest.raises(MergeError, match="bad file"):
        list(executor.run("a", work))


def test_stop_ends_the_owners_job_and_no_other(executor: LocalExecutor) -> None:
    job = started(executor, "a")
    assert not executor.stop("b")
    next(job)
    assert executor.stop("a")
    with pytest.raises(Cancelled):
        list(job)
    assert workers() == 0


def test_closing_waits_until_the_worker_has_ended(executor: LocalExecutor) -> None:
    job = started(executor, "a")
    assert workers() == 1
    job.close()
    assert workers() == 0


def test_the_next_in_line_waits_and_then_works(executor: LocalExecutor) -> None:
    first, second = started(executor, "a"), executor.run("b", patient)
    waiting = next(second)
    assert isinstance(waiting, Step)
    assert waiting.text == "Waiting: one job is before yours"
    assert workers() == 1
    first.close()
    while not (isinstance(step := next(second), Step) and step.text == "Working"):
        pass
    assert workers() == 1
    second.close()


def test_stop_reaches_a_job_in_line(executor: LocalExecutor) -> None:
    first, second = started(executor, "a"), executor.run("b", patient)
    next(second)
    executor.stop("b")
    with pytest.raises(Cancelled):
        list(second)
    next(first)
    first.close()


def test_one_job_per_visitor(executor: LocalExecutor) -> None:
    job = started(executor, "a")
    with pytest.raises(MergeError, match="still running"):
        next(executor.run("a", patient))
    job.close()
    started(executor, "a").close()


def test_a_full_line_is_said(executor: LocalExecutor) -> None:
    jobs = [started(executor, "a"), executor.run("b", patient), executor.run("c", patient)]
    next(jobs[1])
    next(jobs[2])
    with pytest.raises(MergeError, match="Too many"):
        next(executor.run("d", patient))
    for job in reversed(jobs):
        job.close()


def test_a_job_that_takes_too_long_is_ended() -> None:
    executor = LocalExecutor(max_minutes=0.1 / 60, tick=TICK)
    with pytest.raises(MergeError, match="longer than"):
        list(executor.run("a", patient))
    assert workers() == 0


def test_closing_stops_the_worker_and_waits_for_it(executor: LocalExecutor) -> None:
    job = started(executor, "a")
    assert workers() == 1
    executor.close(patience=10)
    assert workers() == 0
    with pytest.raises(Cancelled):
        list(job)


def test_nothing_begins_once_it_is_closed(executor: LocalExecutor) -> None:
    executor.close(patience=10)
    with pytest.raises(Cancelled, match="before it began"):
        list(executor.run("a", patient))
    assert workers() == 0

"""What an operator sees of the jobs."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pytest

from app.jobs.line import Line
from app.jobs.metrics import JobMetrics
from app.storage.room import Room
from merging.errors import Cancelled, MergeError


@pytest.fixture
def line() -> Line:
    return Line(slots=2)


@pytest.fixture
def room(tmp_path: Path) -> Room:
    return Room(tmp_path, 100, 100, 0, 3600)


@pytest.fixture
def metrics(line: Line, room: Room) -> JobMetrics:
    return JobMetrics(line, room)


def lines(metrics: JobMetrics) -> list[str]:
    return metrics.text().decode().splitlines()


def test_the_line_and_the_files_are_counted_as_they_are_now(
    metrics: JobMetrics, line: Line, room: Room
) -> None:
    places = [line.join(owner, owner) for owner in ("first", "second", "third")]
    assert [line.begin(place) for place in places] == [True, True, False]
    room.take("first", 7)
    expected = {
        "iteris_jobs_waiting 1.0",
        "iteris_jobs_running 2.0",
        "iteris_slots 2.0",
        "iteris_files_bytes 7.0",
    }
    assert expected <= set(lines(metrics))
    for place in places:
        line.leave(place)
    assert {"iteris_jobs_waiting 0.0", "iteris_jobs_running 0.0"} <= set(lines(metrics))


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (None, "done"),
        (Cancelled("stopped"), "stopped"),
        (MergeError("no such method"), "refused"),
        (ValueError("a fault of ours"), "failed"),
    ],
)
def test_jobs_are_counted_by_how_they_end(
    metrics: JobMetrics, error: Exception | None, outcome: str
) -> None:
    def job() -> Generator[object, None, None]:
        yield "progress"
        if error:
            raise error

    raised = None
    try:
        assert list(metrics.counted("merge", job())) == ["progress"]
    except Exception as caught:  # noqa: BLE001 -- it is compared with the one that was raised
        raised = caught
    assert raised is error
    assert f'iteris_jobs_total{{kind="merge",outcome="{outcome}"}} 1.0' in lines(metrics)
    assert 'iteris_job_seconds_count{kind="merge"} 1.0' in lines(metrics)


def test_a_job_that_nobody_waits_for_is_stopped(metrics: JobMetrics) -> None:
    job = metrics.counted("draw", iter(["progress", "more"]))  # type: ignore[arg-type]
    next(job)
    job.close()
    assert 'iteris_jobs_total{kind="draw",outcome="stopped"} 1.0' in lines(metrics)

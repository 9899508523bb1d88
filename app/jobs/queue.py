"""Jobs in worker threads: each with a stop flag, behind an iterator.

The iterator yields progress about every ``tick`` seconds, so that its consumer can close it, and no
more often, since every update of a page takes time from the work. Results and solved layers are
always yielded. Closing the iterator sets the stop flag, waits for the thread to end, and only then
lets the next job start. Gradio would otherwise free the slot while the work still runs.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from app.jobs.line import Line, Place
from merging.errors import Cancelled, MergeError
from merging.report import LayerReport
from merging.runtime.progress import Stop


@dataclass(frozen=True)
class Step:
    """Progress of a job."""

    share: float  # of the work, in [0, 1]
    text: str  # the current activity
    seconds: float = 0.0  # in line, then at work
    solved: LayerReport | None = None  # the layer that a merge has just solved
    layers: int = 0  # number of layers that will be solved
    left: float | None = None  # seconds until the end of the job, once they can be told


END = object()  # after the last report
# The work calls emit(item) for every Step and every result, and checks stop() often.
Work = Callable[[Callable[[object], None], Stop], None]


@dataclass(eq=False)
class _Job:
    """A job in line or running."""

    place: Place
    stop: threading.Event = field(default_factory=threading.Event)
    started: float = field(default_factory=time.monotonic)
    worker: threading.Thread | None = None  # once the job is running

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started


class LocalExecutor:
    """Runs the jobs of all visitors, each in a thread, in the order of a line."""

    def __init__(
        self, line: Line | None = None, max_minutes: float = 60, tick: float = 0.5
    ) -> None:
        self._line = line or Line()
        self._jobs: list[_Job] = []
        self._moved = threading.Condition()  # guards the two above
        self._closed = False
        self._max_seconds = 60 * max_minutes
        self._tick = tick

    def run(self, owner: str, work: Work, client: str = "") -> Generator[object, None, None]:
        """Yield the Steps and results of ``work``; raises what it raises, Cancelled after a stop.

        MergeError as `Line.join`, and when the time is up.
        """
        with self._place(owner, client) as job:
            yield from self._wait(job)
            yield from self._work(job, work)

    def stop(self, owner: str) -> bool:
        """Ask the job of ``owner`` to stop, in line or running; False if there is none."""
        with self._moved:
            jobs = [job for job in self._jobs if job.place.owner == owner]
        for job in jobs:
            job.stop.set()
        return bool(jobs)

    def has(self, owner: str) -> bool:
        """Whether ``owner`` has a job, in line or running."""
        with self._moved:
            return bool(self._line.of(owner))

    def close(self, patience: float) -> None:
        """Stop every job, start no more, and wait ``patience`` seconds for each worker.

        Python must not end while a worker is inside torch: the process would be aborted.
        """
        with self._moved:
            self._closed = True
            jobs = list(self._jobs)
            for job in jobs:
                job.stop.set()
        for job in jobs:
            if job.worker:
                job.worker.join(patience)

    @contextmanager
    def _place(self, owner: str, client: str) -> Iterator[_Job]:
        """A place in the line, released at the end."""
        with self._moved:
            job = _Job(self._line.join(owner, client))
            self._jobs.append(job)
        try:
            yield job
        finally:
            with self._moved:
                self._jobs.remove(job)
                self._line.leave(job.place)
                self._moved.notify_all()

    def _wait(self, job: _Job) -> Generator[Step, None, None]:
        """Yield Steps until it is the job's turn."""
        while True:
            with self._moved:
                if self._line.begin(job.place):
                    job.started = time.monotonic()
                    return
                ahead = self._line.before(job.place)
                self._moved.wait(self._tick)
            if job.stop.is_set():
                raise Cancelled("stopped while waiting")
            jobs = "one job is" if ahead == 1 else f"{ahead} jobs are"
            yield Step(0.0, f"Waiting: {jobs} before yours", job.seconds)

    def _begin(self, job: _Job, thread: threading.Thread) -> None:
        """Start the thread, unless the job has been stopped."""
        with self._moved:
            if self._closed or job.stop.is_set():
                raise Cancelled("stopped before it began")
            thread.start()
            job.worker = thread

    def _work(self, job: _Job, work: Work) -> Generator[object, None, None]:
        """Run the work in a thread, which has ended when this iterator ends."""
        reports: queue.SimpleQueue[object] = queue.SimpleQueue()
        failure: list[BaseException] = []

        def body() -> None:
            try:
                work(reports.put, job.stop.is_set)
            except BaseException as error:  # noqa: BLE001 -- handed over to the consumer's thread
                failure.append(error)
            finally:
                reports.put(END)

        thread = threading.Thread(target=body, name="iteris-job", daemon=True)
        self._begin(job, thread)
        timed_out, last_yield = False, float("-inf")
        try:
            step = Step(0.0, "Starting")
            while True:
                timed_out = timed_out or job.seconds > self._max_seconds
                if timed_out:
                    job.stop.set()
                try:
                    report = reports.get(timeout=self._tick)
                except queue.Empty:
                    report = step
                if report is END:
                    break
                if isinstance(report, Step):
                    report = step = replace(report, seconds=job.seconds)
                    if report.solved is None and time.monotonic() - last_yield < self._tick:
                        continue  # a newer one follows soon
                last_yield = time.monotonic()
                yield report
        finally:
            job.stop.set()
            thread.join()
        if timed_out and failure:
            raise MergeError(f"The job took longer than {self._max_seconds / 60:g} minutes.")
        if failure:
            raise failure[0]

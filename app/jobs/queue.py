"""Jobs, each with a place in the line, a slot that does it, and a stop flag, behind an iterator.

The iterator yields progress every ``tick`` seconds or a quarter of that later, so that its consumer
can close it, and no more often, since every update of a page takes time from the work. Results and
solved layers are always yielded. Closing the iterator sets the stop flag, waits for the work to
end, and only then lets the next job start. Gradio would otherwise free the slot while the work
still runs.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial

from app.jobs.job_thread import Emit, JobThread
from app.jobs.line import Line, Place
from app.jobs.slots.slot import Slot, WorkerLost
from app.jobs.timing.pace import Measured, Pace
from app.schemas.draw import Preview
from app.schemas.task import Task, folder_of_attempt
from merging.errors import Cancelled, MergeError
from merging.report import LayerReport
from merging.runtime.progress import Stop, check

log = logging.getLogger(__name__)
ATTEMPTS = 2  # at a task whose worker is lost: a task that kills its workers is given up


@dataclass(frozen=True)
class Step:
    """Progress of a job."""

    share: float  # of the work, in [0, 1]
    text: str  # the current activity
    seconds: float = 0.0  # in line, then at work
    solved: LayerReport | None = None  # the layer that a merge has just solved
    layers: int = 0  # number of layers that will be solved
    left: float | None = None  # seconds until the end of the job, once they can be told


@dataclass(eq=False)
class _Job:
    """A job in line or running."""

    place: Place
    stop: threading.Event = field(default_factory=threading.Event)
    started: float = field(default_factory=time.monotonic)
    slot: Slot | None = None  # once it is the job's turn
    thread: JobThread | None = None  # once the job is running

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started


class Executor:
    """Runs the jobs of all visitors in the order of a line, each in one of the slots."""

    def __init__(
        self,
        slots: Sequence[Slot],
        line: Line | None = None,
        max_minutes: float = 60,
        tick: float = 0.4,
    ) -> None:
        self._slots = slots
        self._free = [*slots]
        self._line = line or Line()
        self._line.slots = len(slots)
        self._jobs: list[_Job] = []
        self._moved = threading.Condition()  # guards the three above
        self.pace = Pace()
        self._closed = False
        self._max_seconds = 60 * max_minutes
        self._tick = tick

    def run(self, owner: str, task: Task, client: str = "") -> Generator[object, None, None]:
        """Yield the Steps and results of a task; Cancelled after a stop.

        MergeError as `Line.join`, if the task cannot be done, and when the time is up.
        """
        with self._place(owner, client) as job:
            yield from self._wait(job)
            yield from self._work(job, task)

    def warm_up(self) -> None:
        """Let every slot load the base model; returns when all have."""
        owners = [f"warm-up {number}" for number in range(len(self._slots))]
        threads = [threading.Thread(target=self._load, args=(owner,)) for owner in owners]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _load(self, owner: str) -> None:
        try:
            list(self.run(owner, Task("load"), owner))
        except MergeError as error:
            log.warning("%s", error)
        except Cancelled:
            log.debug("the program ended before the base model was loaded")

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
            if job.thread:
                job.thread.join(patience)
        for slot in self._slots:
            slot.close()

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
                if job.slot:
                    self._free.append(job.slot)
                self._line.leave(job.place)
                self._moved.notify_all()

    def _wait(self, job: _Job) -> Generator[Step, None, None]:
        """Yield Steps until it is the job's turn."""
        while True:
            with self._moved:
                if self._line.begin(job.place):
                    job.slot = self._free.pop(0)
                    job.started = time.monotonic()
                    return
                ahead = self._line.before(job.place)
                self._moved.wait(self._tick)
            if job.stop.is_set():
                raise Cancelled("stopped while waiting")
            jobs = "one job is" if ahead == 1 else f"{ahead} jobs are"
            yield Step(0.0, f"Waiting: {jobs} before yours", job.seconds)

    def _begin(self, job: _Job, thread: JobThread) -> None:
        """Start the thread, unless the job has been stopped."""
        with self._moved:
            if self._closed or job.stop.is_set():
                raise Cancelled("stopped before it began")
            thread.start()
            job.thread = thread

    def _work(self, job: _Job, task: Task) -> Generator[object, None, None]:
        """Run the task in a thread, which has ended when this iterator ends."""
        thread = JobThread(partial(self._perform, job, task), job.stop)
        self._begin(job, thread)
        timed_out, last_yield, step = False, float("-inf"), Step(0.0, "Starting")
        try:
            with closing(thread.reports(self._tick / 4)) as reports:
                for report in reports:
                    timed_out = timed_out or job.seconds > self._max_seconds
                    if timed_out:
                        job.stop.set()
                    report = step if report is None else report
                    if isinstance(report, Measured):
                        self.pace.note(report)
                        continue
                    if isinstance(report, Step):
                        falls = report.share < step.share  # never without its text
                        report = step = replace(report, seconds=job.seconds)
                        early = time.monotonic() - last_yield < self._tick
                        if early and report.solved is None and not falls:
                            continue  # a newer one follows soon
                    last_yield = time.monotonic()
                    yield report
        except Exception as error:
            if not timed_out:
                raise
            minutes = f"{self._max_seconds / 60:g} minutes"
            raise MergeError(f"The job took longer than {minutes}.") from error

    def _perform(self, job: _Job, task: Task, emit: Emit, stop: Stop) -> None:
        """Let the job's slot do the task; after the loss of its worker it begins anew.

        The same task gives the same results in the same order: those that the lost worker has
        emitted are not emitted again, and their files stay.
        """
        emitted = 0
        for attempt in range(ATTEMPTS):
            folder = folder_of_attempt(task.folder, attempt)
            if task.order:  # else there are no files
                folder.mkdir(parents=True, exist_ok=True)
            results = _Results(emit, emitted)
            try:
                assert job.slot  # it is the job's turn
                job.slot.perform(replace(task, folder=folder), results.emit, stop)
                return
            except WorkerLost as lost:
                log.warning("%s; attempt %d at its task", lost, attempt + 1)
                check(stop)
                emitted = max(emitted, results.count)
                emit(Step(0.0, "The worker of this job has ended; it begins anew"))
                self._change_slot(job)
        raise MergeError(
            f"The worker of this job ended {ATTEMPTS} times before it was done, perhaps for want "
            "of memory: use fewer LoRAs, prompts or layers, or a smaller picture."
        )

    def _change_slot(self, job: _Job) -> None:
        """Another free slot if there is one; the slot without a worker gets one when next used."""
        with self._moved:
            assert job.slot
            self._free.append(job.slot)
            job.slot = self._free.pop(0)


class _Results:
    """Passes on what a task emits, without so many results that were emitted before."""

    def __init__(self, emit: Emit, known: int) -> None:
        self._emit = emit
        self._known = known
        self.count = 0

    def emit(self, item: object) -> None:
        """Previews and measured times differ from run to run, and are no results."""
        if not isinstance(item, Step | Preview | Measured):
            self.count += 1
            if self.count <= self._known:
                return
        self._emit(item)

"""Jobs that outlive the page that began them: a page that is loaded again goes on with its job.

A job's events are kept from its beginning. Whoever follows it gets all of them, whenever he comes.
A job that nobody has followed for a while is stopped.
"""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial

from app.jobs.queue import Step
from app.settings.model import Settings

AWAY_HOME, AWAY_PUBLIC = 600.0, 60.0  # seconds that a job goes on without a page


@dataclass(eq=False)
class HeldJob:
    """A job with everything that it has yielded."""

    order: object  # what was asked for
    patience: float  # seconds without a follower after which it is stopped
    entry: int | None = None  # of the history, once its result is there
    _items: list[object] = field(default_factory=list)
    _failure: BaseException | None = None
    _ended: bool = False
    _followers: int = 0
    _left: float = field(default_factory=time.monotonic)  # when the last follower went
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def begin(self, items: Generator[object, None, None]) -> None:
        """Run the job, whose events these are, in a thread that knows the visitor's request."""
        body = partial(contextvars.copy_context().run, self._run, items)
        threading.Thread(target=body, name="iteris-held", daemon=True).start()

    def follow(self) -> Generator[object, None, None]:
        """Everything from the beginning, of its Steps the newest; raises what the job raised.

        Closing this does not stop the job, unless nobody else comes.
        """
        with self._changed:
            self._followers += 1
        try:
            yield from self._follow()
        finally:
            with self._changed:
                self._followers -= 1
                self._left = time.monotonic()

    @property
    def ended(self) -> bool:
        """Whether the job has ended."""
        return self._ended

    def _follow(self) -> Iterator[object]:
        place = 0
        while fresh := self._after(place):
            yield from (item for item in fresh[:-1] if not _is_passing(item))
            yield fresh[-1]
            place += len(fresh)
        if self._failure is not None:
            raise self._failure

    def _after(self, place: int) -> list[object]:
        """What was yielded from ``place`` on, once there is anything; [] at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._ended or len(self._items) > place)
            return self._items[place:]

    def _run(self, items: Generator[object, None, None]) -> None:
        try:
            with closing(items):
                for item in items:
                    self._add(item)
                    if self._is_abandoned():
                        return
        except BaseException as error:  # noqa: BLE001 -- handed over to whoever follows
            self._failure = error
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    def _add(self, item: object) -> None:
        with self._changed:
            self._items.append(item)
            self._changed.notify_all()

    def _is_abandoned(self) -> bool:
        """Looked at with every event; a running job has one about every half second."""
        with self._changed:
            return not self._followers and time.monotonic() - self._left > self.patience


def _is_passing(item: object) -> bool:
    """A Step, which a later one replaces."""
    return isinstance(item, Step)


class HeldJobs:
    """The last job of every visit, until it has been followed to its end."""

    def __init__(self, patience: float) -> None:
        self.patience = patience
        self._jobs: dict[str, HeldJob] = {}
        self._lock = threading.Lock()

    def begin(self, owner: str, order: object, items: Generator[object, None, None]) -> HeldJob:
        """Run a job of ``owner``, in place of the last one."""
        job = HeldJob(order, self.patience)
        with self._lock:
            last = self._jobs.get(owner)
            if last is None or last.ended:  # else this one will be refused
                self._jobs[owner] = job
        job.begin(items)
        return job

    def of(self, owner: str) -> HeldJob | None:
        """The job that is still to be followed to its end."""
        with self._lock:
            return self._jobs.get(owner)

    def follow(self, owner: str, job: HeldJob) -> Generator[object, None, None]:
        """`HeldJob.follow`; a job that was followed to its end is held no longer."""
        with closing(job.follow()) as items:
            try:
                yield from items
            except GeneratorExit:
                raise
            except BaseException:
                self._let_go(owner, job)
                raise
        self._let_go(owner, job)

    def _let_go(self, owner: str, job: HeldJob) -> None:
        with self._lock:
            if self._jobs.get(owner) is job:
                del self._jobs[owner]


def held_jobs_of(settings: Settings) -> HeldJobs:
    """Nobody else waits at home, so a laptop may be closed for longer there."""
    return HeldJobs(AWAY_HOME if settings.home else AWAY_PUBLIC)

"""Work in a thread of its own, and the reports that it emits."""

from __future__ import annotations

import contextvars
import queue
import threading
from collections.abc import Callable, Generator
from typing import TypeVar, cast

from merging.runtime.progress import Progress, Stop, check

Result = TypeVar("Result")
Emit = Callable[[object], None]
# The work calls emit(item) for every Step and every result, and checks stop() often.
Work = Callable[[Emit, Stop], None]

END = object()  # after the last report
TICK = 1.0  # s


class JobThread:
    """A thread that works. It sees the context of whoever made it, as a visitor's request."""

    def __init__(self, work: Work, stop: threading.Event) -> None:
        self._reports: queue.SimpleQueue[object] = queue.SimpleQueue()
        self._failure: BaseException | None = None
        self._stop = stop
        body = contextvars.copy_context().run
        self._thread = threading.Thread(
            target=body, args=(self._body, work), name="iteris-job", daemon=True
        )

    def _body(self, work: Work) -> None:
        try:
            work(self._reports.put, self._stop.is_set)
        except BaseException as error:  # noqa: BLE001 -- handed over to the consumer's thread
            self._failure = error
        finally:
            self._reports.put(END)

    def start(self) -> None:
        """Begin the work."""
        self._thread.start()

    def join(self, patience: float) -> None:
        """Wait for the end of the work, so many seconds at most."""
        self._thread.join(patience)

    def reports(self, tick: float) -> Generator[object, None, None]:
        """Yield every report, and None after every ``tick`` seconds without one.

        Raises what the work raised. Closing it stops the work and waits until it has ended.
        """
        try:
            while (report := self._next(tick)) is not END:
                yield report
        finally:
            self._stop.set()
            self._thread.join()
        if self._failure:
            raise self._failure

    def _next(self, tick: float) -> object:
        try:
            return self._reports.get(timeout=tick)
        except queue.Empty:
            return None


def in_thread(work: Callable[[Progress], Result]) -> Generator[float | Result, None, None]:
    """The shares that ``work`` reports as done, and its result. Closing it stops the work."""

    def body(emit: Emit, stop: Stop) -> None:
        def progress(share: float, _text: str) -> None:
            check(stop)
            emit(share)

        emit(work(progress))

    thread = JobThread(body, threading.Event())
    thread.start()
    yield from (cast("float | Result", item) for item in thread.reports(TICK) if item is not None)

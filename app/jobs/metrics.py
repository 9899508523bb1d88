"""Counts and times of the jobs, in Prometheus' text format; nothing that tells who brought them."""

from __future__ import annotations

import time
from collections.abc import Generator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from app.jobs.line import Line
from app.schemas.task import Kind
from app.storage.room import Room
from merging.errors import Cancelled, MergeError

SECONDS = (1, 3, 10, 30, 100, 300, 1000, 3000)  # upper edges of the histogram's bins


class JobMetrics:
    """What an operator watches: the line, the slots, the bytes, and how jobs end."""

    def __init__(self, line: Line, room: Room) -> None:
        self._registry = CollectorRegistry()
        self._watch("iteris_jobs_waiting", "Jobs in line").set_function(lambda: len(line.waiting))
        self._watch("iteris_jobs_running", "Jobs at work").set_function(lambda: len(line.running))
        self._watch("iteris_slots", "Jobs that can be at work at once").set_function(
            lambda: line.slots
        )
        self._watch("iteris_files_bytes", "Bytes of all visitors' files").set_function(
            lambda: room.total
        )
        self._ended = Counter(
            "iteris_jobs",
            "Jobs that have ended, by how",
            ("kind", "outcome"),
            registry=self._registry,
        )
        self._seconds = Histogram(
            "iteris_job_seconds",
            "From the request to the end, the time in line included",
            ("kind",),
            buckets=SECONDS,
            registry=self._registry,
        )

    def _watch(self, name: str, text: str) -> Gauge:
        return Gauge(name, text, registry=self._registry)

    def counted(
        self, kind: Kind, items: Generator[object, None, None]
    ) -> Generator[object, None, None]:
        """The items of a job, which is counted when it ends."""
        began, outcome = time.monotonic(), "failed"
        try:
            yield from items
            outcome = "done"
        except (Cancelled, GeneratorExit):
            outcome = "stopped"
            raise
        except MergeError:
            outcome = "refused"
            raise
        finally:
            self._ended.labels(kind, outcome).inc()
            self._seconds.labels(kind).observe(time.monotonic() - began)

    def text(self) -> bytes:
        """All of it, as Prometheus reads it."""
        return generate_latest(self._registry)

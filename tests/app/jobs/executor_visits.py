"""Somebody at an executor: real orders on the embedded base, and what comes of them."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from app.jobs.engine import Engine
from app.jobs.queue import Executor, Step
from app.jobs.timing.pace import Measured
from app.schemas.batch import BatchOrder
from app.schemas.draw import ComparisonOrder, DrawOrder
from app.schemas.merge import MergeOrder, SelectedFile
from app.schemas.task import Kind, Order, Task
from merging.runtime.progress import never
from tests.conftest import LORAS

PICKS = tuple(
    SelectedFile(LORAS / f"{trigger.replace(' ', '-')}.safetensors", trigger, trigger=trigger)
    for trigger in ("sks cat", "vxz pizza")
)
MERGE = MergeOrder(PICKS, method="sum")
SCENE = DrawOrder(PICKS, "a sks cat", steps=1, size="64x64", columns=("base", "merged"))
DRAW = replace(SCENE, columns=("base",), count=2, steps=6)
LONG = replace(DRAW, steps=200, count=8)
ORDERS: dict[Kind, Order] = {
    "merge and draw": ComparisonOrder(MERGE, SCENE),
    "draw": DRAW,
    "batch": BatchOrder(MERGE, ("sum",), ((), ()), scene=SCENE),
}
ZEROGPU = "ITERIS_TEST_ZEROGPU" in os.environ  # by tests/app/jobs/zerogpu.py


class Visit(threading.Thread):
    """Somebody who orders something and takes what comes, until it ends or ``until`` says so."""

    def __init__(self, executor: Executor, owner: str, task: Task, client: str = "") -> None:
        super().__init__(daemon=True)
        self.items: list[object] = []
        self.times: list[float] = []  # when they came
        self.error: Exception | None = None
        self._job = executor.run(owner, task, client or owner)
        self.start()

    def run(self) -> None:
        try:
            for item in self._job:
                self.items.append(item)
                self.times.append(time.monotonic())
        except Exception as error:  # noqa: BLE001 -- looked at by the test
            self.error = error

    @property
    def results(self) -> list[Any]:
        return [item for item in self.items if not isinstance(item, Step)]

    @property
    def steps(self) -> list[Step]:
        return [item for item in self.items if isinstance(item, Step)]

    def reach(self, there: Callable[[], bool]) -> None:
        """Wait until something can be seen of it."""
        while not there():
            assert self.is_alive(), self.error
            time.sleep(0.01)

    def ended(self) -> Visit:
        self.join()
        if self.error:
            raise self.error
        return self


def at_work(visit: Visit) -> Callable[[], bool]:
    """Whether it is between the steps of a picture."""
    return lambda: any("step" in step.text for step in visit.steps)


def here(engine: Engine, kind: Kind, order: Order, folder: Path) -> list[Any]:
    """The results of a task."""
    results: list[Any] = []
    folder.mkdir()

    def keep(item: object) -> None:
        if not isinstance(item, Step | Measured):
            results.append(item)

    engine.perform(Task(kind, order, folder), keep, never)
    return results


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def relative(result: object, folder: Path) -> str:
    """A result as text, without what differs from run to run: its folder and its seconds."""
    return repr(result).replace(str(folder), "").split("seconds=")[0]


def worker_of(executor: Executor, owner: str) -> int:
    """The number of the process that works for this owner."""
    slot: Any = next(job.slot for job in executor._jobs if job.place.owner == owner)
    return _last_on_gpu() if ZEROGPU else int(slot.pid)


def _last_on_gpu() -> int:
    from tests.app.jobs.zerogpu import API

    return API.pids[-1]

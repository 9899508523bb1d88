"""Slots on a Ray cluster: an actor each, with a GPU or a share of the cores, and its base model.

Needs requirements-ray.txt. Files travel through Ray's object store, since the machines of a cluster
share no disk.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import time
from collections.abc import Generator, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayActorError

from app.jobs.job_thread import Emit
from app.jobs.slots.answers import TICK, Ended, answers
from app.jobs.slots.slot import Slot, WorkerLost
from app.schemas.task import Task
from app.settings.model import Settings
from merging.runtime.progress import Stop, check
from merging.workers.cluster import join_cluster, share
from merging.workers.parcel import Files, Inbox, Parcel, files_at, moved, pack


def ray_slots(settings: Settings) -> list[Slot]:
    """Actors on the cluster at ``ray_address``, or on a cluster of this machine alone.

    Those that find no place wait for it, which tells a cluster that scales itself to grow.
    """
    join_cluster(settings.ray_address)
    return [RayWorker(settings) for _ in range(settings.slots)]


class RayWorker:
    """A slot whose actor Ray starts, and starts again after its end."""

    def __init__(self, settings: Settings) -> None:
        plain = replace(settings, file=None, above={})
        actor = ray.remote(max_restarts=-1, max_concurrency=2)(_Actor)
        self._actor = actor.options(**share(settings.device, settings.slots)).remote(plain)
        self._numbers = count()

    @property
    def pid(self) -> int:
        """The number of the actor's process on its machine."""
        return int(ray.get(self._actor.pid.remote()))

    def perform(self, task: Task, emit: Emit, stop: Stop) -> None:
        """As `Slot.perform`."""
        self._wait(stop)
        try:
            ended = self._pass_on(task, emit, stop)
        except RayActorError as error:
            ray.kill(self._actor, no_restart=False)  # it may be there and out of reach
            raise WorkerLost("the Ray actor has ended") from error
        ended.check()

    def close(self) -> None:
        """Leave the cluster, which ends the actors of this app."""
        ray.shutdown()

    def _wait(self, stop: Stop) -> None:
        """Wait until the actor answers: it may have no place yet, or be starting again."""
        answer = self._actor.pid.remote()
        while True:
            check(stop)
            ready, _ = ray.wait([answer], timeout=TICK)
            try:
                if ready:
                    ray.get(answer)
                    return
            except RayActorError:
                time.sleep(TICK)
                answer = self._actor.pid.remote()

    def _pass_on(self, task: Task, emit: Emit, stop: Stop) -> Ended:
        """Emit the actor's answers up to the last one, with their files in the task's folder."""
        number, parcel = next(self._numbers), pack(task)
        sent = [ray.put(files_at(path)) for path in parcel.paths]
        streaming = self._actor.perform.options(num_returns="streaming")
        answers_to_come = streaming.remote(number, parcel, task.folder, sent)
        stopped = False
        while True:
            if stop() and not stopped:
                self._actor.stop.remote(number)
                stopped = True
            ready, _ = ray.wait([answers_to_come], timeout=TICK, fetch_local=False)
            if not ready:
                continue
            answer, files = ray.get(next(answers_to_come))
            _write(task.folder, files)
            item = answer.unpack(answer.paths)
            if isinstance(item, Ended):
                return item
            emit(item)


def _write(folder: Path, files: Files) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


class _Actor:
    """The worker, in a process of Ray's; one thread works, another one hears of a stop."""

    def __init__(self, settings: Settings) -> None:
        from app.jobs.engine import Engine

        self._engine = Engine(settings)
        self._stops: dict[int, threading.Event] = {}

    def pid(self) -> int:
        """The number of this process; answers once the actor has started."""
        return os.getpid()

    def stop(self, number: int) -> None:
        """Ask a task to stop."""
        self._stops.setdefault(number, threading.Event()).set()

    def perform(
        self, number: int, parcel: Parcel, folder: Path, sent: Sequence[Any]
    ) -> Generator[tuple[Parcel, Files], None, None]:
        """Yield every answer to a task, with the files that are new in its folder."""
        stop = self._stops.setdefault(number, threading.Event())
        work = Path(tempfile.mkdtemp(prefix="iteris-ray-"))
        try:
            desk = _Desk(work, folder)
            task = desk.unpack(parcel, [ray.get(reference) for reference in sent])
            for answer in answers(self._engine, task, stop):
                if answer is not None:
                    yield desk.pack(answer)
        finally:
            shutil.rmtree(work)
            del self._stops[number]


class _Desk:
    """The files of one task where it is done: those that came, and those that are made."""

    def __init__(self, work: Path, folder: Path) -> None:
        """``folder`` is the task's where it was ordered."""
        self._inbox = Inbox(work / "in")
        self._made = work / "out"
        self._made.mkdir()
        self._folder = folder
        self._sent: set[Path] = set()

    def unpack(self, parcel: Parcel, contents: Sequence[Files]) -> Any:
        """What was sent, with its files in place."""
        places = self._inbox.places(parcel.paths, contents)
        return parcel.unpack(moved(places, self._folder, self._made))

    def pack(self, answer: object) -> tuple[Parcel, Files]:
        """An answer with paths as they are where it goes, and the files that it names.

        The last answer brings what none has named.
        """
        if isinstance(answer, Ended):
            answer = self._with_own_names(answer)
        parcel = pack(answer)
        named = set(self._made.rglob("*") if isinstance(answer, Ended) else parcel.paths)
        fresh = {path for path in named - self._sent if path.is_file()}
        fresh = {path for path in fresh if path.is_relative_to(self._made)}
        self._sent |= fresh
        files = {path.relative_to(self._made).as_posix(): path.read_bytes() for path in fresh}
        paths = moved([self._inbox.origin(path) for path in parcel.paths], self._made, self._folder)
        return replace(parcel, paths=tuple(paths)), files

    def _with_own_names(self, ended: Ended) -> Ended:
        """A failure whose sentence names files as they are called where it goes."""
        if ended.failure is None:
            return ended
        text = self._inbox.with_origins(ended.failure.text)
        text = text.replace(str(self._made), str(self._folder))
        return Ended(replace(ended.failure, text=text))

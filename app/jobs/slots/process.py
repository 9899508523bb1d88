"""Slots in processes of their own on this machine, each with its base model."""

from __future__ import annotations

import signal
import threading
from dataclasses import replace
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import TYPE_CHECKING

from app.jobs.job_thread import Emit
from app.jobs.slots.answers import TICK, Ended, answers
from app.jobs.slots.slot import WorkerLost
from app.log import start_log
from app.schemas.task import Task
from app.settings.model import Settings
from merging.runtime.progress import Stop
from merging.workers.start import start_context

if TYPE_CHECKING:
    from app.jobs.engine import Engine

STOP = "stop"  # sent to a worker while it works on a task
CONTEXT = start_context("app.jobs.engine")


class WorkerProcess:
    """A slot whose process is started when first used, and again after its end."""

    def __init__(self, settings: Settings, number: int) -> None:
        """``number`` is among the slots, which share the GPUs, or the cores, of the machine."""
        self._settings = settings
        self._number = number
        self._pipe: Connection | None = None
        self._process: BaseProcess | None = None

    @property
    def pid(self) -> int | None:
        """The process's number, None before it is first used."""
        return self._process.pid if self._process else None

    def perform(self, task: Task, emit: Emit, stop: Stop) -> None:
        """As `Slot.perform`."""
        try:
            ended = self._pass_on(task, emit, stop)
        except (EOFError, OSError) as error:
            self.close()
            raise WorkerLost("the worker's process has ended") from error
        ended.check()

    def close(self) -> None:
        """End the process, whatever it does."""
        process, pipe = self._process, self._pipe
        self._process = self._pipe = None
        if process and pipe:
            process.kill()
            process.join()
            pipe.close()

    def _pass_on(self, task: Task, emit: Emit, stop: Stop) -> Ended:
        """Emit the worker's answers up to the last one."""
        pipe = self._pipe or self._start()
        pipe.send(task)
        stopped = False
        while True:
            if stop() and not stopped:
                pipe.send(STOP)
                stopped = True
            if not pipe.poll(TICK):
                continue
            answer = pipe.recv()
            if isinstance(answer, Ended):
                return answer
            emit(answer)

    def _start(self) -> Connection:
        ours, theirs = CONTEXT.Pipe()
        arguments = (theirs, self._settings, self._number)
        self._process = CONTEXT.Process(target=serve, args=arguments, daemon=True)
        self._process.start()
        theirs.close()  # the worker has its own; now its end closes the pipe
        self._pipe = ours
        return ours


def serve(pipe: Connection, settings: Settings, number: int) -> None:
    """The worker: do one task after another, until the app has gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the app stops its jobs and then this process
    start_log(settings.logs)
    from app.jobs.engine import Engine

    engine = Engine(replace(settings, device=_device(settings, number)))
    try:
        while True:
            task = pipe.recv()
            if isinstance(task, Task):  # not a stop that came too late for the last one
                _answer(pipe, engine, task)
    except (EOFError, BrokenPipeError):
        return


def _answer(pipe: Connection, engine: Engine, task: Task) -> None:
    """Send all answers to a task; whatever arrives meanwhile asks it to stop."""
    stop = threading.Event()
    for answer in answers(engine, task, stop):
        if pipe.poll():
            pipe.recv()
            stop.set()
        if answer is not None:
            pipe.send(answer)


def _device(settings: Settings, number: int) -> str:
    """A GPU of its own if there are several; on a CPU, its share of the cores."""
    import torch

    count = torch.cuda.device_count()
    if settings.device in ("auto", "cuda") and count > 1:
        return f"cuda:{number % count}"
    torch.set_num_threads(max(1, torch.get_num_threads() // settings.slots))
    return settings.device

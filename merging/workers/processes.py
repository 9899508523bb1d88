"""Workers in processes of their own on this machine."""

from __future__ import annotations

import os
import pickle
import signal
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from multiprocessing.connection import Connection, wait
from typing import Any

import torch

from merging.workers.failure import attempt, checked
from merging.workers.start import start_context
from merging.workers.work import ATTEMPTS, Work, given_up

CONTEXT = start_context("merging.engine", "merging.diffusion.render")


class Processes:
    """So many processes at most; they end with the list of tasks, or with this process."""

    def __init__(self, count: int) -> None:
        self._count = count

    def answers(self, work: Work, numbers: Iterable[int]) -> Iterator[tuple[int, Any]]:
        """As `Workers.answers`."""
        waiting, lost = deque(numbers), Counter[int]()
        plain = pickle.dumps(work)  # torch would lend its tensors to the workers, by open files
        crew = [_Worker(plain, place) for place in range(min(self._count, len(waiting)))]
        try:
            while waiting or any(worker.busy for worker in crew):
                for worker in crew:
                    if not worker.busy and waiting:
                        worker.begin(waiting.popleft())
                for worker in _heard(crew):
                    number = worker.number
                    try:
                        answer = worker.answer()
                    except (EOFError, OSError) as error:
                        lost[number] += 1
                        if lost[number] == ATTEMPTS:
                            raise given_up(number) from error
                        waiting.appendleft(number)
                        worker.close()
                        crew[crew.index(worker)] = _Worker(plain, worker.place)
                    else:
                        yield number, checked(answer)
        finally:
            for worker in crew:
                worker.close()


class _Worker:
    """One process, and the pipe to it."""

    def __init__(self, work: bytes, place: int) -> None:
        self.place = place
        self.pipe, theirs = CONTEXT.Pipe()
        arguments = (theirs, work, torch.get_num_threads(), _gpu(place))
        self._process = CONTEXT.Process(target=_serve, args=arguments, daemon=True)
        self._process.start()
        theirs.close()  # the process has its own; now its end closes the pipe
        self.busy, self.number = False, 0

    def begin(self, number: int) -> None:
        """Send a task; whether the process is still there shows when its answer is read."""
        self.busy, self.number = True, number
        try:
            self.pipe.send(number)
        except OSError:
            return

    def answer(self) -> Any:
        """The answer to the last task; EOFError or OSError if the process has ended."""
        answer = self.pipe.recv()
        self.busy = False
        return answer

    def close(self) -> None:
        """End the process, whatever it does."""
        self._process.kill()
        self._process.join()
        self.pipe.close()


def _heard(crew: Iterable[_Worker]) -> list[_Worker]:
    """Those that have answered, or ended; waits for the first."""
    busy = {worker.pipe: worker for worker in crew if worker.busy}
    return [busy[pipe] for pipe in wait(list(busy)) if isinstance(pipe, Connection)]


def _gpu(place: int) -> str:
    """The GPU of a worker where there are several, as CUDA_VISIBLE_DEVICES has it; else ""."""
    count = torch.cuda.device_count()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(count)))
    return visible.split(",")[place % count] if count > 1 else ""


def _serve(pipe: Connection, plain: bytes, threads: int, gpu: str) -> None:
    """The worker: one task after another, until the other end has gone.

    It uses as many threads as the process that it works for would: their number shows in the last
    digits of a picture.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl+C reaches it too: end without a traceback
    if gpu:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu  # torch looks at it when it first needs a GPU
    torch.set_num_threads(threads)
    work = pickle.loads(plain)
    try:
        while True:
            pipe.send(attempt(work, pipe.recv()))
    except (EOFError, OSError):
        return

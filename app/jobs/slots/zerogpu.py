"""Slots on a ZeroGPU Space: each task is done in a process that has a GPU while it works.

Needs requirements-zerogpu.txt, and `spaces` imported before anything that may touch CUDA. The main
process keeps the base model, which ZeroGPU moves to the GPU of the process that it forks; nothing
else there may use CUDA. The visitor's quota pays for the seconds that a task asks for.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Generator
from contextlib import closing

import spaces

from app.jobs.engine import Engine
from app.jobs.job_thread import Emit
from app.jobs.slots.answers import Ended, answers
from app.jobs.slots.slot import Slot, WorkerLost
from app.schemas.batch import BatchOrder
from app.schemas.draw import ComparisonOrder, DrawOrder
from app.schemas.merge import MergeOrder
from app.schemas.task import Task
from app.schemas.tuning import TuneOrder
from app.settings.model import Settings
from merging.calibration.prompts import is_style
from merging.calibration.refine_size import refine_cost
from merging.errors import Cancelled, MergeError
from merging.runtime.progress import Stop

log = logging.getLogger(__name__)

# Seconds that a task asks for, guessed: compare with what the log says that it took.
START = 10  # the process, and the weights' way to its GPU
MERGE = 20  # and beside it, for each sample of a method with prompts
SAMPLE = 1.0
PASS = 0.002  # of the UNet, where a refinement has many together
STEP = 0.05  # of one picture, at 512 × 512
PICTURE = 0.5  # to decode and save it
LOOKS, LOOK_STEPS = 4, 12  # pictures of a merge that are judged, and their steps
MOST = 120  # more than this ZeroGPU gives no visitor without an account

# What `spaces` calls its errors, and what they mean to a visitor.
REFUSALS = {
    "ZeroGPU quota exceeded": "Your GPU time on Hugging Face is used up: log in for more, or come "
    "again later",
    "ZeroGPU pending credits exceeded": "Other tasks of yours hold your GPU time: try again when "
    "they have ended",
    "ZeroGPU illegal duration": "This needs the GPU for longer than one task may: use fewer "
    "prompts, steps or pictures",
    "ZeroGPU queue timeout": "No GPU became free: try again in a minute",
    "ZeroGPU client error": "No GPU can be had just now: try again in a minute",
}

ENGINES: list[Engine] = []  # of this process, one; forked with it


def seconds(task: Task) -> int:
    """How long the GPU is asked for."""
    order, needed = task.order, float(START)
    if isinstance(order, ComparisonOrder):
        needed += _merge_seconds(order.merge) + _draw_seconds(order.scene)
    elif isinstance(order, BatchOrder):
        needed += order.count * _merge_seconds(order.merge)
        needed += order.count * _draw_seconds(order.scene, 1) if order.scene else 0
    elif isinstance(order, TuneOrder):
        looks = LOOKS * (PICTURE + STEP * LOOK_STEPS) if order.judge != "objective" else 0
        needed += order.merges * (_merge_seconds(order.merge) + looks)
    elif isinstance(order, DrawOrder):
        needed += _draw_seconds(order)
    elif order:
        needed += _merge_seconds(order)
    return min(round(needed), MOST)


def _merge_seconds(order: MergeOrder) -> float:
    needed = MERGE + SAMPLE * order.samples
    if order.refine:
        styles = sum(is_style(pick.trigger) for pick in order.picks)
        needed += PASS * refine_cost(len(order.picks), styles, order.refine).total
    return needed


def _draw_seconds(order: DrawOrder, columns: int = 0) -> float:
    columns = columns or len(order.columns) + len(order.picks) + len(order.others)
    return columns * len(order.scenes) * (PICTURE + STEP * order.steps)


@spaces.GPU(duration=seconds)
def on_gpu(task: Task) -> Generator[object, None, None]:
    """The answers to a task, from the process that has a GPU; a stop closes this."""
    yield from answers(ENGINES[0], task, threading.Event())


def zerogpu_slots(settings: Settings) -> list[Slot]:
    """Slots that share one base model; call it on the main thread, before the page is served."""
    if not ENGINES:
        ENGINES.append(Engine(settings))
        base = ENGINES[0].load()
        # Read now, and kept: once the page is served, the weights are in ZeroGPU's hands.
        log.info("%s: %s, %d layers", base.name, base.fingerprint, len(base.table.shapes))
    return [ZeroGpu() for _ in range(settings.slots)]


class ZeroGpu:
    """A slot whose process ZeroGPU starts for a task and may keep for the next."""

    def perform(self, task: Task, emit: Emit, stop: Stop) -> None:
        """As `Slot.perform`; MergeError too if the visitor gets no GPU."""
        if task.kind == "load":
            return  # done before the page was served
        try:
            ended = self._pass_on(task, emit, stop)
        except Exception as error:
            raise _meaning(error) from error
        ended.check()

    def close(self) -> None:
        """ZeroGPU ends its processes with this one."""

    def _pass_on(self, task: Task, emit: Emit, stop: Stop) -> Ended:
        ended, asked, started = Ended(), time.monotonic(), None
        with closing(on_gpu(task)) as items:
            for item in items:
                started = started or time.monotonic()
                if isinstance(item, Ended):
                    ended = item
                elif stop():
                    raise Cancelled("stopped")
                elif item is not None:
                    emit(item)
        now = time.monotonic()
        log.info(
            "ZeroGPU: %s asked for %d s and took %.1f s, after %.1f s until it began",
            task.kind,
            seconds(task),
            now - (started or now),
            (started or now) - asked,
        )
        return ended


def _meaning(error: Exception) -> Exception:
    """What an error of `spaces` is to us; others as they are."""
    title, text = getattr(error, "title", ""), str(getattr(error, "message", error))
    if title in REFUSALS:
        log.info("%s: %s", title, text)
        return MergeError(f"{REFUSALS[title]}.")
    if title == "ZeroGPU worker error" and "aborted" in text:
        return WorkerLost("the process with the GPU has ended")
    return error

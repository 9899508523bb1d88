"""The one module of the app through which torch and diffusers are imported, which takes seconds.

The page is built and served without it; a visitor's first file or the warm-up after the start
imports it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

from app.jobs.batch import batch_job
from app.jobs.comparison import comparison_job, comparison_stages
from app.jobs.conflicts import ConflictFinder
from app.jobs.draw import draw_job, drawing_stages, round_stages
from app.jobs.export import curve, pack_files, take, unpack
from app.jobs.inspect import card
from app.jobs.job_thread import Emit
from app.jobs.merge import merge_job
from app.jobs.models import Bases
from app.jobs.sources import outline
from app.jobs.timing.pace import Measured, Stage, pace_key
from app.jobs.tuning import tune_job
from app.schemas.draw import SEEDS, ComparisonOrder, DrawOrder
from app.schemas.export import Export, ExportOrder
from app.schemas.task import Kind, Task
from app.settings.model import Settings
from merging.analysis.summary import summary
from merging.base_models import base_model
from merging.calibration.cost import merge_cost
from merging.diffusion.base import Base, pick_device
from merging.diffusion.render import render
from merging.retrieval.clip_reader import load_reader
from merging.runtime.progress import Stop, silent

# Each takes the bases, its order, a folder for its files, emit and stop.
JOBS: dict[Kind, Callable[..., None]] = {
    "merge": merge_job,
    "merge and draw": comparison_job,
    "draw": draw_job,
    "batch": batch_job,
    "tune": tune_job,
}
SEEDS_FAST = 4  # of a prompt, where a picture takes seconds


class Engine:
    """The jobs of an app with its base models and its cache of conflicts."""

    card = staticmethod(card)
    curve = staticmethod(curve)
    summary = staticmethod(summary)
    unpack = staticmethod(unpack)
    pack_files = staticmethod(pack_files)

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._bases = Bases(settings.device)
        self.meetings = ConflictFinder()
        self.clip_reader = cache(load_reader)  # of the library's suggestions

    def perform(self, task: Task, emit: Emit, stop: Stop) -> None:
        """Do a task in the caller's thread, with exclusive use of the base models."""
        with self._bases.in_use():
            if task.kind == "load":
                _try_out(self.load(), emit)
            else:
                JOBS[task.kind](self._bases, task.order, task.folder, emit, stop)

    def load(self) -> Base:
        """The base model of the settings, loaded if needed; MergeError if it cannot be."""
        return self._bases.get(self._settings.base, self._settings.precision, silent)

    def stages(self, order: ComparisonOrder | DrawOrder) -> list[Stage]:
        """The stages of a job, with their costs; reads no file."""
        if isinstance(order, ComparisonOrder):
            return comparison_stages(order, merge_cost(outline(order.merge)))
        return drawing_stages(order, order.column_count)

    def usual_seeds(self, base: str) -> int:
        """How many seeds of a prompt are drawn unless the visitor says so."""
        if base_model(base).folder:
            return SEEDS
        return SEEDS_FAST if pick_device(self._settings.device).type != "cpu" else 1

    def take(self, order: ExportOrder, folder: Path) -> Export:
        """Export a merge, in the caller's thread."""
        return take(self._bases, order, folder)


def _try_out(base: Base, emit: Emit) -> None:
    """Measure a few steps of an embedded base, for the time on the page's button."""
    if not base_model(base.name).folder:
        return
    order = DrawOrder((), "a photo", base.name, steps=5, precision=base.precision)
    (stage,) = round_stages(order, 1, range(1))
    begun = time.monotonic()
    render(base, order.prompts, [order.seed], steps=order.steps, guidance=order.guidance)
    emit(Measured(pace_key(order), [replace(stage, seconds=time.monotonic() - begun)]))

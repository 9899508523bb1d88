"""The one module of the app through which torch and diffusers are imported, which takes seconds.

The page is built and served without it; a visitor's first file or the warm-up after the start
imports it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from app.jobs.batch import batch_job
from app.jobs.comparison import comparison_job
from app.jobs.conflicts import ConflictFinder
from app.jobs.draw import draw_job
from app.jobs.export import curve, take
from app.jobs.inspect import card
from app.jobs.job_thread import Emit
from app.jobs.merge import merge_job
from app.jobs.models import Bases
from app.schemas.export import Export, ExportOrder
from app.schemas.task import Kind, Task
from app.settings.model import Settings
from merging.analysis.summary import summary
from merging.diffusion.base import Base
from merging.runtime.progress import Stop, silent

# Each takes the bases, its order, a folder for its files, emit and stop.
JOBS: dict[Kind, Callable[..., None]] = {
    "merge": merge_job,
    "merge and draw": comparison_job,
    "draw": draw_job,
    "batch": batch_job,
}


class Engine:
    """The jobs of an app with its base models and its cache of conflicts."""

    card = staticmethod(card)
    curve = staticmethod(curve)
    summary = staticmethod(summary)

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._bases = Bases(settings.device)
        self.meetings = ConflictFinder()

    def perform(self, task: Task, emit: Emit, stop: Stop) -> None:
        """Do a task in the caller's thread, with exclusive use of the base models."""
        with self._bases.in_use():
            if task.kind == "load":
                self.load()
            else:
                JOBS[task.kind](self._bases, task.order, task.folder, emit, stop)

    def load(self) -> Base:
        """The base model of the settings, loaded if needed; MergeError if it cannot be."""
        return self._bases.get(self._settings.base, self._settings.precision, silent)

    def take(self, order: ExportOrder, folder: Path) -> Export:
        """Export a merge, in the caller's thread."""
        return take(self._bases, order, folder)

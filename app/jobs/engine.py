"""The one module of the app through which torch and diffusers are imported, which takes seconds.

The page is built and served without it; a visitor's first file or the warm-up after the start
imports it.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from app.jobs.batch import batch_job
from app.jobs.comparison import comparison_job
from app.jobs.conflicts import ConflictFinder
from app.jobs.draw import draw_job
from app.jobs.export import curve, take
from app.jobs.inspect import card
from app.jobs.merge import merge_job
from app.jobs.models import Bases
from app.jobs.queue import Work
from app.schemas.batch import BatchOrder
from app.schemas.draw import ComparisonOrder, DrawOrder
from app.schemas.export import Export, ExportOrder
from app.schemas.merge import MergeOrder
from app.settings.model import Settings
from merging.analysis.summary import summary
from merging.runtime.progress import Stop, silent


class Engine:
    """The jobs of an app with its base models and its cache of conflicts."""

    card = staticmethod(card)
    curve = staticmethod(curve)
    summary = staticmethod(summary)

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._bases = Bases(settings.device)
        self.meetings = ConflictFinder()

    def merging(self, order: MergeOrder, folder: Path) -> Work:
        """The work of a merge, for the executor."""
        return self._bases.job(partial(merge_job, self._bases, order, folder))

    def drawing(self, order: DrawOrder, folder: Path) -> Work:
        """The work of a comparison, for the executor."""
        return self._bases.job(partial(draw_job, self._bases, order, folder))

    def comparing(self, order: ComparisonOrder, folder: Path) -> Work:
        """The work of a merge with its comparison, for the executor."""
        return self._bases.job(partial(comparison_job, self._bases, order, folder))

    def batching(self, order: BatchOrder, folder: Path) -> Work:
        """The work of several merges, for the executor."""
        return self._bases.job(partial(batch_job, self._bases, order, folder))

    def load(self, _emit: object, _stop: Stop) -> None:
        """Work that loads the base model of the settings."""
        self._bases.get(self._settings.base, self._settings.precision, silent)

    def take(self, order: ExportOrder, folder: Path) -> Export:
        """Export a merge, in the caller's thread."""
        return take(self._bases, order, folder)

"""The door to everything that takes seconds to import: torch, diffusers and what works with them.

The page is built and served without it; a visitor's first file, or the warm-up after the start,
comes through here.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from app.batches import BatchOrder
from app.drawing import draw_job
from app.executor import Work
from app.jobs import Bases, merge_job
from app.looking import card
from app.meetings import Meetings
from app.orders import MergeOrder
from app.scenes import DrawOrder
from app.settings import Settings
from app.several import batch_job
from app.taking import curve, take
from merging.progress import Stop
from merging.summary import summary


class Engine:
    """The base models of an app, what is known of its files' meetings, and what needs neither."""

    card = staticmethod(card)
    curve = staticmethod(curve)
    summary = staticmethod(summary)
    take = staticmethod(take)

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._bases = Bases(settings.device)
        self.meetings = Meetings()

    def merging(self, order: MergeOrder, folder: Path) -> Work:
        """A merge for the executor."""
        return partial(merge_job, self._bases, order, folder)

    def drawing(self, order: DrawOrder, folder: Path) -> Work:
        """A comparison for the executor."""
        return partial(draw_job, self._bases, order, folder)

    def batching(self, order: BatchOrder, folder: Path) -> Work:
        """Several merges for the executor."""
        return partial(batch_job, self._bases, order, folder)

    def load(self, _emit: object, _stop: Stop) -> None:
        """Work that loads the usual base."""
        self._bases.get(self._settings.base, self._settings.precision, lambda _share, _text: None)

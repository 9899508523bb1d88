"""The base models and CLIP models that all jobs share, loaded when first needed."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

from merging.base_models import base_model
from merging.diffusion.base import Base, load_base
from merging.diffusion.preview import Previewer, fit_previewer
from merging.options import Precision
from merging.runtime.progress import Progress
from merging.scoring.clip import Clip, load_clip

MAX_BASES = 2  # loaded at the same time


class Bases:
    """Base models by name and precision, loaded when first needed.

    A base model has adapters loaded while it works, so only one thread at a time uses it: a job as
    long as it runs, others between jobs.
    """

    def __init__(self, device: str) -> None:
        self._device = device
        self._loaded: dict[tuple[str, str], Base] = {}
        self._clips: dict[str, Clip] = {}
        self._previewers: dict[tuple[str, str], Previewer] = {}
        self._in_use = threading.Lock()

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Exclusive use of the base models, for a job as long as it runs; waits for it."""
        with self._in_use:
            yield

    @contextmanager
    def if_idle(self, name: str, precision: str) -> Iterator[Base | None]:
        """The base model if it is loaded and no job is running, else None; does not wait."""
        free = self._in_use.acquire(blocking=False)
        try:
            yield self._loaded.get((name, precision)) if free else None
        finally:
            if free:
                self._in_use.release()

    def get(self, name: str, precision: str, progress: Progress) -> Base:
        """The base model, loaded if needed; MergeError if it cannot be loaded."""
        if (name, precision) not in self._loaded:
            model = base_model(name)
            download = "" if model.folder else "; a first download takes minutes"
            progress(0.0, f"Loading {model.title}{download}")
            loaded = load_base(name, self._device, cast(Precision, precision))
            while len(self._loaded) >= MAX_BASES:
                self._loaded.pop(next(iter(self._loaded)))
            self._loaded[name, precision] = loaded
        return self._loaded[name, precision]

    def previewer(self, base: Base) -> Previewer:
        """What makes rough pictures of this base's latents."""
        key = base.name, base.precision
        if key not in self._previewers:
            self._previewers[key] = fit_previewer(base)
        return self._previewers[key]

    def clip(self, base: Base, progress: Progress) -> Clip:
        """The CLIP model that scores this base's pictures; MergeError if it cannot be loaded."""
        name = base_model(base.name).clip
        if name not in self._clips:
            progress(0.0, "Loading CLIP for the scores")
            self._clips[name] = load_clip(name)
        return self._clips[name]

"""The base models and CLIP models that all jobs share, loaded when first needed."""

from __future__ import annotations

from typing import cast

from merging.base_models import base_model
from merging.diffusion.base import Base, load_base
from merging.options import Precision
from merging.runtime.progress import Progress
from merging.scoring.clip import Clip, load_clip

KEPT_BASES = 2  # loaded at a time: the embedded one is small, and nobody needs three


class Bases:
    """Base models by name and precision, loaded when first wanted. Jobs alone use it, in turn."""

    def __init__(self, device: str) -> None:
        self._device = device
        self._loaded: dict[tuple[str, str], Base] = {}
        self._clips: dict[str, Clip] = {}

    def get(self, name: str, precision: str, progress: Progress) -> Base:
        """The base, loaded; MergeError when it cannot be had."""
        if (name, precision) not in self._loaded:
            model = base_model(name)
            first = "" if model.folder else "; a first download takes minutes"
            progress(0.0, f"Loading {model.title}{first}")
            loaded = load_base(name, self._device, cast(Precision, precision))
            while len(self._loaded) >= KEPT_BASES:
                self._loaded.pop(next(iter(self._loaded)))
            self._loaded[name, precision] = loaded
        return self._loaded[name, precision]

    def clip(self, base: Base, progress: Progress) -> Clip:
        """The CLIP that judges this base's pictures; MergeError when it cannot be had."""
        name = base_model(base.name).clip
        if name not in self._clips:
            progress(0.0, "Loading CLIP for the scores")
            self._clips[name] = load_clip(name)
        return self._clips[name]

"""What the page shows of a file: plain data, so that it can live in a visitor's state."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from merging import formats
from merging.adapter import Adapter

# In words, what a LayerTable's name means.
BASE_TITLES = {"mini": "the embedded mini model", "sd15": "Stable Diffusion 1.5"}


@dataclass(frozen=True)
class Card:
    """One uploaded LoRA, as its card shows it."""

    path: Path  # the visit's own copy
    name: str  # the user's file name without its ending
    sha256: str
    family: str
    base: str  # name of the LayerTable it fits
    ranks: str  # "8", or "4–16"
    alphas: str
    text_encoder: int  # layers it changes there
    unet: int
    megabytes: float
    trigger: str
    warnings: tuple[str, ...]

    @property
    def base_title(self) -> str:
        """The base in words."""
        return base_title(self.base)


def card(path: Path, name: str) -> Card:
    """Look at the file that the user calls ``name``; MergeError says what is wrong with it.

    Values are read and checked too, except of families whose change depends on the base's weights.
    """
    look = formats.overview(path, name=name)
    if look.needs_base:
        return _card_of_header(look, path)
    return _card(formats.read(path, name=name), path)


def _card(adapter: Adapter, path: Path) -> Card:
    """The card of an adapter that was read from ``path``."""
    parts = Counter(name.split(".", 1)[0] for name in adapter.layers)
    return Card(
        path=path,
        name=adapter.name,
        sha256=adapter.sha256,
        family=adapter.family,
        base=adapter.base,
        ranks=span([layer.rank for layer in adapter.layers.values()]),
        alphas=span([layer.alpha for layer in adapter.layers.values()]),
        text_encoder=parts["text_encoder"],
        unet=parts["unet"],
        megabytes=path.stat().st_size / 2**20,
        trigger=adapter.trigger,
        warnings=adapter.warnings,
    )


def _card_of_header(look: formats.Overview, path: Path) -> Card:
    """The card of a file that waits for a base model to be read whole."""
    return Card(
        path=path,
        name=look.name,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        family=look.family,
        base=look.base,
        ranks=span(list(look.ranks)) if look.ranks else "full",
        alphas=span(list(look.alphas)) if look.alphas else "none",
        text_encoder=look.matched["text_encoder"],
        unet=look.matched["unet"],
        megabytes=path.stat().st_size / 2**20,
        trigger=look.trigger,
        warnings=look.warnings,
    )


def base_title(name: str) -> str:
    """A base in words."""
    return BASE_TITLES.get(name, name)


def misfit(name: str, made_for: str, base: str) -> str:
    """One sentence if the LoRA ``name`` was made for another base than the chosen one, else ""."""
    if made_for == base or not {made_for, base} <= BASE_TITLES.keys():
        return ""
    return (
        f"{name}: made for {base_title(made_for)}, but the chosen base is "
        f"{base_title(base)}: choose the other base, or remove this file."
    )


def span(values: list[int] | list[float]) -> str:
    """ "8" where all are equal, else "4–16"."""
    lowest, highest = min(values), max(values)
    return f"{lowest:g}" if lowest == highest else f"{lowest:g}–{highest:g}"

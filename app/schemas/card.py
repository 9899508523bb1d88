"""What the page shows of a file: plain data, so that it can live in a visitor's state."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from merging.base_models import BASE_MODELS, base_model

WORD = "textual inversion"  # the family of files that change no layer
MOST_WORDS, LONGEST_WORD = 12, 60  # trigger words that are offered


@dataclass(frozen=True)
class Card:
    """One file, as its card shows it: from its header, but for the norms."""

    path: Path  # the visit's own copy
    name: str  # the user's file name without its ending
    sha256: str
    family: str
    base: str  # name of the LayerTable it fits
    needs_base: bool  # whether its changes depend on the base model's own weights
    ranks: Mapping[int, int]  # rank → layers that have it
    alphas: Mapping[float, int]
    dtypes: Mapping[str, int]
    layers: Mapping[str, int]  # part → layers that the file changes
    known: Mapping[str, int]  # part → layers that the base has
    unmatched: tuple[str, ...]  # modules that the base does not have
    embeddings: Mapping[str, int]  # textual inversions inside → vectors
    shifts: str  # biases and normalisation vectors that the file changes, in words
    megabytes: float
    trigger: str
    class_word: str
    words: tuple[str, ...]  # trigger words to offer, the likeliest first
    captions: tuple[str, ...]  # of its training set, the most frequent first
    warnings: tuple[str, ...]
    norms: Mapping[str, float]  # block → ‖Δ‖ of its layers; {} where only a merge can tell
    thumbnail: str = ""  # a data URL, "" where the file has no picture
    origin: str = ""  # owner/repo/file@commit where it is from the Hub

    @property
    def is_word(self) -> bool:
        """Whether it is a textual inversion: a word with vectors of its own, and no LoRA."""
        return self.family == WORD

    @property
    def base_title(self) -> str:
        """The base in words."""
        return base_model(self.base).title


def fits(made_for: str, base: str) -> bool:
    """Whether what was made for one base can be used with the other, as far as names tell."""
    return made_for == base or not {made_for, base} <= BASE_MODELS.keys()


def misfit(name: str, made_for: str, base: str) -> str:
    """One sentence if the file ``name`` was made for another base than the chosen one, else ""."""
    if fits(made_for, base):
        return ""
    return (
        f"{name}: made for {base_model(made_for).title}, but the chosen base is "
        f"{base_model(base).title}: choose the other base, or remove this file."
    )


def span(values: Iterable[float]) -> str:
    """ "8" where all are equal, else "4–16"; "" where there are none."""
    listed = list(values)
    if not listed:
        return ""
    lowest, highest = min(listed), max(listed)
    return f"{lowest:g}" if lowest == highest else f"{lowest:g}–{highest:g}"

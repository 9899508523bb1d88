"""What the page shows of a file: plain data, so that it can live in a visitor's state."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from merging.base_models import BASE_MODELS, base_model

WORD = "textual inversion"  # the family of files of textual inversions
MOST_WORDS, LONGEST_WORD = 12, 60  # suggested trigger words, and their letters


@dataclass(frozen=True)
class Card:
    """What the card of a file shows; all but the norms is from the header."""

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
    words: tuple[str, ...]  # suggested trigger words, the likeliest first
    captions: tuple[str, ...]  # of its training set, the most frequent first
    warnings: tuple[str, ...]
    norms: Mapping[str, float]  # block → ‖Δ‖ of its layers; {} where only a merge can tell
    thumbnail: str = ""  # a data URL, "" where the file has no picture
    origin: str = ""  # owner/repo/file@commit where it is from the Hub
    sidecar: str = ""  # title and base model in the file that lay beside it

    @property
    def is_word(self) -> bool:
        """Whether it is a file of textual inversions, and no LoRA."""
        return self.family == WORD

    @property
    def base_title(self) -> str:
        """The base model's title."""
        return base_model(self.base).title


def fits(made_for: str, base: str) -> bool:
    """Whether a file for one base model may fit another one, judged by their names."""
    return made_for == base or not {made_for, base} <= BASE_MODELS.keys()


def bases_of(cards: Iterable[Card]) -> list[str]:
    """The known base models that the LoRAs were made for, the one of most of them first."""
    names = [card.base for card in cards if not card.is_word and card.base in BASE_MODELS]
    return sorted(dict.fromkeys(names), key=lambda name: -names.count(name))


def misfit(name: str, made_for: str, base: str) -> str:
    """A sentence if the file ``name`` was made for another base model than ``base``, else ""."""
    if fits(made_for, base):
        return ""
    return (
        f"{name}: made for {base_model(made_for).title}, but the chosen base is "
        f"{base_model(base).title}: choose the other base, or remove this file."
    )


def span(values: Iterable[float]) -> str:
    """ "8" where all are equal, else "4–16"; "" where there are none."""
    numbers = list(values)
    if not numbers:
        return ""
    lowest, highest = min(numbers), max(numbers)
    return f"{lowest:g}" if lowest == highest else f"{lowest:g}–{highest:g}"

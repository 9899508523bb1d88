"""What the page shows of a file: plain data, so that it can live in a visitor's state."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from merging import formats
from merging.embedding import Embedding
from merging.errors import MergeError
from merging.formats.shifts import in_words
from merging.summary import block_norms, file_sha256

# In words, what a LayerTable's name means.
BASE_TITLES = {"mini": "the embedded mini model", "sd15": "Stable Diffusion 1.5"}
WORD = "textual inversion"  # the family of files that change no layer
TAGS = "ss_tag_frequency"  # the header field with the captions of the training set
MOST_WORDS, LONGEST_WORD = 12, 60  # trigger words that are offered
# modelspec's picture of the concept: taken only as plain image data, and not a large one.
THUMBNAIL = re.compile(r"data:image/(?:png|jpeg|webp);base64,[A-Za-z0-9+/]+={0,2}")
MOST_THUMBNAIL = 400_000  # characters


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
        return base_title(self.base)


def card(path: Path, name: str) -> Card:
    """Look at the file that the user calls ``name``.

    MergeError says what is wrong with its header. Damaged values are refused where they are used.
    """
    try:
        look = formats.overview(path, name=name)
    except MergeError:
        if (alone := formats.embeddings_alone(path, name)) is None:
            raise
        return _word_card(path, *alone)
    return Card(
        path=path,
        name=look.name,
        sha256=file_sha256(path),
        family=look.family,
        base=look.base,
        needs_base=look.needs_base,
        ranks=dict(look.ranks),
        alphas=dict(look.alphas),
        dtypes=dict(look.dtypes),
        layers=dict(look.matched),
        known=dict(look.known),
        unmatched=look.unmatched,
        embeddings=dict(look.words),
        shifts=in_words(look.shifts),
        megabytes=look.file_bytes / 2**20,
        trigger=look.trigger,
        class_word=look.class_word,
        words=_offered(look),
        captions=look.trained_words.get(TAGS, ()),
        warnings=look.warnings,
        norms=_norms(path, look),
        thumbnail=_thumbnail(look.metadata.get("modelspec.thumbnail", "").strip()),
    )


def _word_card(path: Path, base: str, found: Sequence[Embedding]) -> Card:
    """Of a file that gives words vectors of their own; one word alone may be called otherwise."""
    words = {each.word: len(each.vectors) for each in found}
    lone = len(words) == 1
    return Card(
        path=path,
        name=found[0].source,
        sha256=found[0].sha256,
        family=WORD,
        base=base,
        needs_base=False,
        ranks={},
        alphas={},
        dtypes={},
        layers={},
        known={},
        unmatched=(),
        embeddings=words,
        shifts="",
        megabytes=path.stat().st_size / 2**20,
        trigger=next(iter(words)) if lone else "",
        class_word="",
        # A1111 calls every embedding as its file.
        words=tuple(dict.fromkeys([*words, found[0].source])) if lone else tuple(words),
        captions=(),
        warnings=(),
        norms={},
    )


def _norms(path: Path, look: formats.Overview) -> dict[str, float]:
    """How much every block changes, without a base model; a damaged file has no such figures."""
    if look.needs_base:
        return {}
    try:
        return block_norms(formats.read(path, name=look.name))
    except MergeError:
        return {}


def _thumbnail(text: str) -> str:
    """The picture in a header, "" for anything that is not surely one."""
    return text if len(text) <= MOST_THUMBNAIL and THUMBNAIL.fullmatch(text) else ""


def _offered(look: formats.Overview) -> tuple[str, ...]:
    """Words that may call the concept: what the file calls its trigger, then its other words."""
    fields = sorted(look.trained_words, key=lambda field: field == TAGS)
    words = [word for field in fields for word in look.trained_words[field]]
    with_class = f"{look.trigger} {look.class_word}"
    named = look.trigger and look.class_word and look.class_word not in look.trigger
    every = filter(None, [look.trigger, with_class if named else "", *words])
    short = (word for word in dict.fromkeys(every) if len(word) <= LONGEST_WORD)
    return tuple(short)[:MOST_WORDS]


def base_title(name: str) -> str:
    """A base in words."""
    return BASE_TITLES.get(name, name)


def misfit(name: str, made_for: str, base: str) -> str:
    """One sentence if the file ``name`` was made for another base than the chosen one, else ""."""
    if made_for == base or not {made_for, base} <= BASE_TITLES.keys():
        return ""
    return (
        f"{name}: made for {base_title(made_for)}, but the chosen base is "
        f"{base_title(base)}: choose the other base, or remove this file."
    )


def span(values: Iterable[float]) -> str:
    """ "8" where all are equal, else "4–16"; "" where there are none."""
    listed = list(values)
    if not listed:
        return ""
    lowest, highest = min(listed), max(listed)
    return f"{lowest:g}" if lowest == highest else f"{lowest:g}–{highest:g}"

"""Looking at a file: from its bytes to its card."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from app.schemas.card import LONGEST_WORD, MOST_WORDS, WORD, Card
from merging import formats
from merging.analysis.summary import block_norms
from merging.embedding import Embedding
from merging.errors import MergeError
from merging.formats.vector_deltas import describe_counts
from merging.io.files import file_sha256

TAGS = "ss_tag_frequency"  # the header field with the captions of the training set
# modelspec's picture of the concept: taken only as plain image data, and not a large one.
THUMBNAIL = re.compile(r"data:image/(?:png|jpeg|webp);base64,[A-Za-z0-9+/]+={0,2}")
MOST_THUMBNAIL = 400_000  # characters


def card(path: Path, name: str) -> Card:
    """Look at the file that the user calls ``name``.

    MergeError says what is wrong with its header. Damaged values are refused where they are used.
    """
    try:
        look = formats.overview(path, name=name)
    except MergeError:
        if (alone := formats.read_embedding_file(path, name)) is None:
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
        embeddings=dict(look.embeddings),
        shifts=describe_counts(look.shifts),
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

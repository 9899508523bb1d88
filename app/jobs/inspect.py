"""The card of a file, read from the file."""

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
from merging.text.syntax import escaped

TAGS = "ss_tag_frequency"  # the header field with the captions of the training set
# modelspec's picture of the concept: used only if it is image data and not large.
THUMBNAIL = re.compile(r"data:image/(?:png|jpeg|webp);base64,[A-Za-z0-9+/]+={0,2}")
MAX_THUMBNAIL = 400_000  # characters


def card(path: Path, name: str) -> Card:
    """The card of the file that the user calls ``name``.

    Raises MergeError for a damaged header, and for a file that cannot be read whole. Damaged
    weights raise it where they are used.
    """
    try:
        overview = formats.overview(path, name=name)
    except MergeError:
        if (embedding_file := formats.read_embedding_file(path, name)) is None:
            raise
        return _embedding_card(path, *embedding_file)
    if overview.refusal:
        raise MergeError(overview.refusal)
    return Card(
        path=path,
        name=overview.name,
        sha256=file_sha256(path),
        family=overview.family,
        base=overview.base,
        needs_base=overview.needs_base,
        ranks=dict(overview.ranks),
        alphas=dict(overview.alphas),
        dtypes=dict(overview.dtypes),
        layers=dict(overview.matched),
        known=dict(overview.known),
        unmatched=overview.unmatched,
        embeddings=dict(overview.embeddings),
        shifts=describe_counts(overview.shifts),
        megabytes=overview.file_bytes / 2**20,
        trigger=overview.trigger,
        class_word=overview.class_word,
        words=_trigger_suggestions(overview),
        captions=overview.trained_words.get(TAGS, ()),
        warnings=overview.warnings,
        norms=_norms(path, overview),
        thumbnail=_thumbnail(overview.metadata.get("modelspec.thumbnail", "").strip()),
    )


def _embedding_card(path: Path, base: str, embeddings: Sequence[Embedding]) -> Card:
    """The card of a file of textual inversions; a single one may get another word."""
    vectors_by_word = {embedding.word: len(embedding.vectors) for embedding in embeddings}
    single = len(vectors_by_word) == 1
    return Card(
        path=path,
        name=embeddings[0].source,
        sha256=embeddings[0].sha256,
        family=WORD,
        base=base,
        needs_base=False,
        ranks={},
        alphas={},
        dtypes={},
        layers={},
        known={},
        unmatched=(),
        embeddings=vectors_by_word,
        shifts="",
        megabytes=path.stat().st_size / 2**20,
        trigger=next(iter(vectors_by_word)) if single else "",
        class_word="",
        # in A1111 the word is the file's name
        words=tuple(dict.fromkeys([*vectors_by_word, *([embeddings[0].source] if single else [])])),
        captions=(),
        warnings=(),
        norms={},
    )


def _norms(path: Path, overview: formats.Overview) -> dict[str, float]:
    """‖Δ‖ by block; {} for files that need the base model's weights, and for damaged ones."""
    if overview.needs_base:
        return {}
    try:
        return block_norms(formats.read(path, name=overview.name))
    except MergeError:
        return {}


def _thumbnail(text: str) -> str:
    """The picture in a header; "" for anything else."""
    return text if len(text) <= MAX_THUMBNAIL and THUMBNAIL.fullmatch(text) else ""


def _trigger_suggestions(overview: formats.Overview) -> tuple[str, ...]:
    """Suggested triggers: the header's trigger first, then its other trained words and tags."""
    fields = sorted(overview.trained_words, key=lambda field: field == TAGS)
    words = [
        escaped(word) if field == TAGS else word
        for field in fields
        for word in overview.trained_words[field]
    ]
    with_class = f"{overview.trigger} {overview.class_word}"
    named = overview.trigger and overview.class_word and overview.class_word not in overview.trigger
    candidates = filter(None, [overview.trigger, with_class if named else "", *words])
    short = (word for word in dict.fromkeys(candidates) if len(word) <= LONGEST_WORD)
    return tuple(short)[:MOST_WORDS]

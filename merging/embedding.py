"""Textual inversions: vectors for a word, which some LoRAs need in addition."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from merging.errors import MergeError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Embedding:
    """One textual inversion: the text encoder's input vectors for a word of the prompt."""

    word: str  # as in prompts
    vectors: Tensor  # (vectors, width of the text encoder), float32
    source: str = ""  # name of the adapter or the file that it is from
    sha256: str = ""  # of its file; "" inside an adapter
    origin: str = ""  # owner/repo/file@commit if the file is from the Hub

    @property
    def file_stem(self) -> str:
        """The word with characters that a file name may have."""
        return re.sub(r"[^\w.-]+", "-", self.word).strip("-.") or "word"


def distinct_embeddings(embeddings: Iterable[Embedding]) -> tuple[Embedding, ...]:
    """All of them without repeats; MergeError if two would have the same word or file name."""
    distinct: dict[str, Embedding] = {}
    for embedding in embeddings:
        other = distinct.setdefault(embedding.file_stem.casefold(), embedding)
        same = other.word.casefold() == embedding.word.casefold()
        if not (same and other.vectors.equal(embedding.vectors)):
            raise MergeError(
                f"{other.source} and {embedding.source} have different textual inversions for the "
                f"words “{other.word}” and “{embedding.word}”, which prompts cannot tell apart; "
                "rename one (FILE=WORD, or on the card of its file), or leave one out."
            )
    return tuple(distinct.values())

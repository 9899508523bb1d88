"""Textual inversions: words with vectors of their own, which a concept may need beside its LoRA."""

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
    """What the text encoder is to take for a word: as many vectors as the word has tokens."""

    word: str  # as prompts say it
    vectors: Tensor  # (vectors, width of the text encoder), float32
    source: str = ""  # name of the adapter or the file that brought it
    sha256: str = ""  # of a file of its own; "" inside an adapter
    origin: str = ""  # owner/repo/file@commit where that is from the Hub

    @property
    def plain(self) -> str:
        """The word as a part of a file's name."""
        return re.sub(r"[^\w.-]+", "-", self.word).strip("-.") or "word"


def together(embeddings: Iterable[Embedding]) -> tuple[Embedding, ...]:
    """All of them, each once; MergeError if two would be the same word, or the same file."""
    found: dict[str, Embedding] = {}
    for each in embeddings:
        other = found.setdefault(each.plain.casefold(), each)
        same = other.word.casefold() == each.word.casefold()
        if not (same and other.vectors.equal(each.vectors)):
            raise MergeError(
                f"{other.source} and {each.source} bring vectors of their own for the words "
                f"“{other.word}” and “{each.word}”, which no prompt could tell apart; rename one "
                "(a file of its own takes another word: FILE=WORD, or on its card), or leave one "
                "out."
            )
    return tuple(found.values())

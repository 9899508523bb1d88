"""The words of prompts and LoRAs: which of a LoRA's words a text has in common with it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Protocol

from merging.text.syntax import plain_text

# How much a hit counts: a trigger describes a LoRA better than one of its captions.
FIELD_WEIGHTS = {"trigger": 4, "name": 3, "words": 2, "captions": 1}
# Words of prompts that do not describe the picture.
STOP_WORDS = frozenset(
    "a an and at above behind beside by for in near of on the to under with "  # noqa: SIM905
    "photo picture image background".split()
)
MIN_PREFIX = 3  # letters from which the beginning of a word is a hit
MOST_TEXTS = 8  # of what is said of a LoRA, for CLIP, which reads 77 tokens
# What a prompt calls a thing ends at a sign or at a word that describes nothing.
PIECE = re.compile(r"\w+|[^\w\s]")


class Described(Protocol):
    """A LoRA with what is said of it."""

    @property
    def trigger(self) -> str:
        """Its trigger words."""

    @property
    def name(self) -> str:
        """Its file's name."""

    @property
    def words(self) -> Sequence[str]:
        """Suggested trigger words, the likeliest first."""

    @property
    def captions(self) -> Sequence[str]:
        """Captions of its training set, the most frequent first."""


def words_of(text: str) -> list[str]:
    """Every word once, in small letters."""
    return list(dict.fromkeys(re.findall(r"\w+", text.lower())))


def terms_of(text: str) -> list[str]:
    """The words that describe something."""
    return [word for word in words_of(text) if word not in STOP_WORDS]


def things_in(prompt: str) -> list[str]:
    """What a prompt names: “a red car beside a dog” has “red car” and “dog”."""
    things, run = list[str](), list[str]()
    for piece in [*PIECE.findall(prompt.lower()), "."]:
        if piece in STOP_WORDS or not (piece[0].isalnum() or piece[0] == "_"):
            things += [" ".join(run)] if run else []
            run = []
        else:
            run.append(piece)
    return list(dict.fromkeys(things))


def texts_of(lora: Described) -> list[str]:
    """What is said of a LoRA, the most telling first; at most MOST_TEXTS."""
    fields = _fields(lora)
    texts = [" ".join(terms_of(plain_text(text))) for field in fields.values() for text in field]
    return list(dict.fromkeys(filter(None, texts)))[:MOST_TEXTS]


def hits(lora: Described, terms: Sequence[str]) -> list[int]:
    """The weight of each search term's best field, 0 where no field has it."""
    known = {field: set(words_of(" ".join(texts))) for field, texts in _fields(lora).items()}
    return [
        max(
            (FIELD_WEIGHTS[field] for field, words in known.items() if _has(words, term)), default=0
        )
        for term in terms
    ]


def _fields(lora: Described) -> dict[str, Sequence[str]]:
    return {
        "trigger": [lora.trigger],
        "name": [lora.name.replace("_", " ")],
        "words": lora.words,
        "captions": lora.captions,
    }


def _has(words: set[str], term: str) -> bool:
    if term in words:
        return True
    return len(term) >= MIN_PREFIX and any(word.startswith(term) for word in words)

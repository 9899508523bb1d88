"""FILE@strength on the command line: parsed into a file and its strengths."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from merging.diffusion.base import Base
from merging.embedding import Embedding
from merging.errors import MergeError
from merging.formats import read_embeddings
from merging.io.hub import resolve_file
from merging.lora_file import Input, weighed

NAMED = ("te", "unet", "lbw")


SETTINGS = re.compile(r"(?:[-+.\d]|\w+=)[^/\\]*")


def parsed(text: str) -> Input:
    """FILE, or FILE@ and its strengths; an @ that none follow belongs to the name."""
    file, _, words = text.rpartition("@")
    first, *rest = words.split(":")
    if not (file and SETTINGS.fullmatch(words)) or words.endswith(".safetensors"):
        return Input(Path(text))
    if "=" not in first and not _is_number(first):
        return Input(Path(text))
    named = _named(text, rest if "=" not in first else [first, *rest])
    common = 1.0 if "=" in first else float(first)
    te, unet = (_number(text, named[key]) if key in named else None for key in ("te", "unet"))
    return weighed(Path(file), common, te, unet, named.get("lbw"))


def words(texts: Sequence[str], base: Base) -> tuple[Embedding, ...]:
    """FILE or FILE=WORD each: textual inversions, under their own words or another."""
    found_words: list[Embedding] = []
    for text in texts:
        file, equals, word = ("", "", "") if Path(text).exists() else text.rpartition("=")
        place = resolve_file(Path(file if equals else text))
        read_words = read_embeddings(place.path, base.table, place.name, word.strip())
        found_words += [replace(each, origin=place.origin) for each in read_words]
    return tuple(found_words)


def _named(text: str, words: list[str]) -> dict[str, str]:
    named: dict[str, str] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or key not in NAMED or key in named:
            reason = "is given twice" if key in named else "is not known"
            raise MergeError(
                f"{text}: “{word}” {reason}; after @ come a strength and te=, unet= and lbw=, "
                "such as FILE@0.8:te=0.5:lbw=MIDD."
            )
        named[key] = value
    return named


def _number(text: str, word: str) -> float:
    if not _is_number(word):
        raise MergeError(f"{text}: “{word}” is no number; write a strength such as 0.8.")
    return float(word)


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True

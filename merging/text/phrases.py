"""Trigger phrases in prompts: whole ones, in capitals or not, the longest first.

Words are those of CLIP's tokenizer, but for signs, which stand alone here: a phrase that the tokens
have is found here, too.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TypeVar

Item = TypeVar("Item")
# the end of "it's"; letters; a digit; any other sign
WORD = re.compile(r"'(?:s|t|re|ve|m|ll|d)|[^\W\d_]+|\d|[^\w\s]|_", re.IGNORECASE)


def phrases_in(prompt: str, phrases: Sequence[str]) -> list[str]:
    """The phrases that a prompt names; where both are asked for, “sks cat girl” is no “sks cat”.

    Here and below, prompts and phrases are plain: without A1111's syntax.
    """
    places = phrase_spans(prompt, phrases)
    return [phrase for phrase, slices in zip(phrases, places, strict=True) if slices]


def repeated(phrases: Sequence[str]) -> list[str]:
    """The phrases that the text encoder reads as another one: capitals and spaces do not count."""
    words = [_words(phrase) for phrase in phrases]
    return [phrase for phrase, own in zip(phrases, words, strict=True) if words.count(own) > 1]


def phrase_spans(text: str, phrases: Sequence[str]) -> list[list[slice]]:
    """Where each phrase is in a text, in characters."""
    spans = [word.span() for word in WORD.finditer(text)]
    places = longest_first(_words(text), [_words(phrase) for phrase in phrases])
    return [[slice(spans[p.start][0], spans[p.stop - 1][1]) for p in slices] for slices in places]


def longest_first(items: Sequence[Item], wanted: Sequence[Sequence[Item]]) -> list[list[slice]]:
    """Where each row of items is among the others: an item of a longer row is in no shorter one.

    Equal rows share their places.
    """
    places_of: dict[int, list[slice]] = {}
    for i in sorted(range(len(wanted)), key=lambda i: -len(wanted[i])):
        places = occurrences(items, wanted[i])
        taken = [place for others in places_of.values() for place in others if place not in places]
        places_of[i] = [place for place in places if not any(_overlap(place, t) for t in taken)]
    return [places_of[i] for i in range(len(wanted))]


def occurrences(items: Sequence[Item], wanted: Sequence[Item]) -> list[slice]:
    """Where a row of items is among others; nowhere if it is empty."""
    size = len(wanted)
    starts = range(len(items) - size + 1) if size else ()
    return [slice(i, i + size) for i in starts if list(items[i : i + size]) == list(wanted)]


def _words(text: str) -> list[str]:
    return [word.lower() for word in WORD.findall(text)]


def _overlap(one: slice, other: slice) -> bool:
    return one.start < other.stop and other.start < one.stop

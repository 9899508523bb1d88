"""Trigger phrases in prompts: whole ones, in capitals or not, the longest first.

A word is a run of letters, a digit or a sign. CLIP's tokenizer makes one token of several signs,
and of an opening quote with the letter behind it; the words here do not depend on what stands
beside a phrase.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

LETTERS = r"(?:[^\W\d_][\u0300-\u036f]*)+"  # with the accents that stand behind them
ENDING = r"(?<=[^\W\d_])'(?:s|t|re|ve|m|ll|d)(?![^\W\d_])"  # of "it's"
WORD = re.compile(rf"{ENDING}|{LETTERS}|\d|[^\w\s]|_", re.IGNORECASE)


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


def phrase_spans(
    text: str, phrases: Sequence[str], word: re.Pattern[str] = WORD
) -> list[list[slice]]:
    """Where each phrase is in a text, in characters; ``word`` matches what is one word.

    Two phrases have no character in common, unless they are the same words.
    """
    spans = [match.span() for match in word.finditer(text)]
    places = _longest_first(_words(text, word), [_words(phrase, word) for phrase in phrases])
    return [[slice(spans[p.start][0], spans[p.stop - 1][1]) for p in slices] for slices in places]


def _longest_first(words: Sequence[str], phrases: Sequence[Sequence[str]]) -> list[list[slice]]:
    """Where each phrase is among the words: a word of a longer one is in no shorter one.

    Equal phrases share their places.
    """
    places_of: dict[int, list[slice]] = {}
    for i in sorted(range(len(phrases)), key=lambda i: -len(phrases[i])):
        places = _occurrences(words, phrases[i])
        taken = [place for others in places_of.values() for place in others if place not in places]
        places_of[i] = [place for place in places if not any(_overlap(place, t) for t in taken)]
    return [places_of[i] for i in range(len(phrases))]


def _occurrences(words: Sequence[str], phrase: Sequence[str]) -> list[slice]:
    """Where a phrase is among the words; nowhere if it is empty."""
    size = len(phrase)
    starts = range(len(words) - size + 1) if size else ()
    return [slice(i, i + size) for i in starts if list(words[i : i + size]) == list(phrase)]


def _words(text: str, word: re.Pattern[str] = WORD) -> list[str]:
    return [unicodedata.normalize("NFC", match[0]).lower() for match in word.finditer(text)]


def _overlap(one: slice, other: slice) -> bool:
    return one.start < other.stop and other.start < one.stop

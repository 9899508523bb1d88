"""Prompts as tokens: ids for the text encoder, and the tokens whose rows a merge counts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor

from merging.diffusion.base import Base
from merging.errors import MergeError
from merging.options import Padding, Tokens
from merging.text.phrases import WORD, phrase_spans


@dataclass(frozen=True)
class Token:
    """A token of a text, and the characters from ``start`` to ``stop`` that it stands for."""

    id: int
    start: int
    stop: int


def token_ids(base: Base, text: str) -> list[int]:
    """Token ids with start and end; the word of a textual inversion becomes its vectors' ids."""
    start, end = base.pipeline.tokenizer("").input_ids
    return [start, *(token.id for token in tokens_of(base, text)), end]


def tokens_of(base: Base, text: str, place: int = 0) -> list[Token]:
    """The tokens of a text that begins at the character ``place``, without start and end."""
    if not base.embedding_ids:
        return _plain_tokens(base, text, place)
    tokens: list[Token] = []
    for piece in _pattern(base.embedding_ids).split(text):
        if vectors := base.embedding_ids.get(piece.casefold()):
            tokens += [Token(vector, place, place + len(piece)) for vector in vectors]
        else:
            tokens += _plain_tokens(base, piece, place)
        place += len(piece)
    return tokens


def _plain_tokens(base: Base, text: str, place: int) -> list[Token]:
    rows = base.pipeline.tokenizer(
        text,
        add_special_tokens=False,
        return_offsets_mapping=True,
        verbose=False,  # quiet about long texts
    )
    pairs = zip(rows.input_ids, rows.offset_mapping, strict=True)
    return [Token(token, place + start, place + stop) for token, (start, stop) in pairs]


def _pattern(words: Iterable[str]) -> re.Pattern[str]:
    """Matches any of the words, the longest first, but not inside another word."""
    longest_first = sorted(words, key=len, reverse=True)
    patterns = [
        (r"\b" if word[0].isalnum() else "")
        + re.escape(word)
        + (r"\b" if word[-1].isalnum() else "")
        for word in longest_first
    ]
    return re.compile(f"({'|'.join(patterns)})", re.IGNORECASE)


def text_ids(base: Base, prompts: Sequence[str]) -> Tensor:
    """Token ids (prompts, length), padded as in the pipeline; MergeError for long prompts."""
    tokenizer = base.pipeline.tokenizer
    length = tokenizer.model_max_length
    rows = [token_ids(base, prompt) for prompt in prompts]
    for prompt, row in zip(prompts, rows, strict=True):
        if len(row) > length:
            raise MergeError(
                f"The prompt “{prompt[:60]}…” has {len(row)} tokens and this base reads "
                f"{length}; shorten it."
            )
    padding = tokenizer.pad_token_id
    padded = [row + [padding] * (length - len(row)) for row in rows]
    return torch.tensor(padded, device=base.device)


def phrase_positions(
    base: Base, text: str, phrases: Sequence[str], tokens: Sequence[Token] | None = None
) -> list[list[int]]:
    """Which of a text's tokens each phrase has, counted without the start; longer phrases first.

    Signs beside a phrase may be in one token with its own ones, which is the phrase's then. Two
    phrases never share a token: it belongs to the one whose characters come first in it. Equal
    phrases share all of theirs. The word of a textual inversion is one word.
    """
    word = WORD
    if base.embedding_ids:
        word = re.compile(f"{_pattern(base.embedding_ids).pattern}|{WORD.pattern}", WORD.flags)
    spans = phrase_spans(text, phrases, word)
    positions: list[list[int]] = [[] for _ in phrases]
    for k, token in enumerate(tokens_of(base, text) if tokens is None else tokens):
        for i in _holders(token, spans):
            positions[i].append(k)
    return positions


def _holders(token: Token, spans: Sequence[Sequence[slice]]) -> list[int]:
    """The phrases that a token belongs to: those whose characters come first in it."""
    starts = {
        i: max(span.start, token.start)
        for i, slices in enumerate(spans)
        for span in reversed(slices)
        if span.start < token.stop and token.start < span.stop
    }
    return [i for i, start in starts.items() if start == min(starts.values())]


def split_long(base: Base, text: str) -> list[str]:
    """The text in pieces that the text encoder reads at once, cut between words."""
    length, pieces = base.pipeline.tokenizer.model_max_length, [""]
    if len(token_ids(base, text)) <= length:
        return [text]
    for word in text.split():
        longer = f"{pieces[-1]} {word}".strip()
        if len(token_ids(base, longer)) > length and pieces[-1]:
            pieces.append(word)
        else:
            pieces[-1] = longer
    return pieces


def counted_tokens(
    base: Base, prompts: Sequence[str], phrases: Sequence[str], padding: Padding, tokens: Tokens
) -> Tensor:
    """Mask of the tokens whose rows count, (prompts, length) of bool.

    ``first-eos`` leaves out the padding after the end token, which SD attends to as well.
    ``concept`` counts the tokens of the phrases alone, or all tokens of a prompt without a phrase.
    """
    tokenizer = base.pipeline.tokenizer
    masks = torch.ones(len(prompts), tokenizer.model_max_length, dtype=torch.bool)
    for mask, prompt in zip(masks, prompts, strict=True):
        if padding == "first-eos":
            mask[len(token_ids(base, prompt)) :] = False
        positions = chain.from_iterable(phrase_positions(base, prompt, phrases))
        if tokens == "concept" and (own := [k + 1 for k in positions]):
            mask[:] = False
            mask[own] = True
    return masks

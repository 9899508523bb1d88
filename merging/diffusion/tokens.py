"""Prompts as tokens: ids for the text encoder, and the tokens whose rows a merge counts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from merging.diffusion.base import Base
from merging.errors import MergeError
from merging.options import Padding, Tokens


def token_ids(base: Base, text: str) -> list[int]:
    """Token ids with start and end; the word of a textual inversion becomes its vectors' ids."""
    tokenizer = base.pipeline.tokenizer
    if not base.embedding_ids:
        return tokenizer(text, verbose=False).input_ids  # quiet about long texts
    start, end = tokenizer("").input_ids
    ids: list[int] = []
    for piece in _pattern(base.embedding_ids).split(text):
        vectors = base.embedding_ids.get(piece.casefold())
        ids += vectors or tokenizer(piece, add_special_tokens=False, verbose=False).input_ids
    return [start, *ids, end]


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


def phrase_positions(base: Base, prompt: str, phrase: str) -> list[slice]:
    """Where the phrase's tokens are in the prompt, one slice per occurrence."""
    return _positions(token_ids(base, prompt), token_ids(base, phrase)[1:-1])


def _positions(ids: Sequence[int], phrase_ids: Sequence[int]) -> list[slice]:
    size = len(phrase_ids)
    starts = range(len(ids) - size + 1) if size else ()
    return [slice(i, i + size) for i in starts if list(ids[i : i + size]) == list(phrase_ids)]


def phrase_places(base: Base, ids: Sequence[int], phrases: Sequence[str]) -> list[list[slice]]:
    """Where each phrase is among a prompt's ids, the longest first: its tokens are in no other.

    So “sks cat girl” is not “sks cat” too; equal phrases share their places.
    """
    phrase_ids = [token_ids(base, phrase)[1:-1] for phrase in phrases]
    places_of: dict[int, list[slice]] = {}
    for i in sorted(range(len(phrases)), key=lambda i: -len(phrase_ids[i])):
        places = _positions(ids, phrase_ids[i])
        taken = [place for others in places_of.values() for place in others if place not in places]
        places_of[i] = [place for place in places if not any(_overlap(place, t) for t in taken)]
    return [places_of[i] for i in range(len(phrases))]


def _overlap(one: slice, other: slice) -> bool:
    return one.start < other.stop and other.start < one.stop


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
        slices = [span for phrase in phrases for span in phrase_positions(base, prompt, phrase)]
        if tokens == "concept" and slices:
            mask[:] = False
            for span in slices:
                mask[span] = True
    return masks

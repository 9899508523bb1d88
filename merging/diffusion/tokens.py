"""Prompts as tokens: ids for the text encoder, and the tokens whose rows a merge counts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from merging.diffusion.base import Base
from merging.errors import MergeError
from merging.options import Padding, Tokens
from merging.text.phrases import longest_first, occurrences


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
    return occurrences(token_ids(base, prompt), token_ids(base, phrase)[1:-1])


def phrase_places(base: Base, ids: Sequence[int], phrases: Sequence[str]) -> list[list[slice]]:
    """Where each phrase is among a prompt's ids, the longest first: its tokens are in no other.

    So “sks cat girl” is not “sks cat” too; equal phrases share their places.
    """
    return longest_first(ids, [token_ids(base, phrase)[1:-1] for phrase in phrases])


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
        slices = [span for phrase in phrases for span in phrase_positions(base, prompt, phrase)]
        if tokens == "concept" and slices:
            mask[:] = False
            for span in slices:
                mask[span] = True
    return masks

"""Prompts as tokens: numbers for the text encoder, and which tokens a merge counts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from merging.diffusion.base import Base
from merging.errors import MergeError
from merging.options import Padding, Tokens


def token_ids(base: Base, text: str) -> list[int]:
    """Start, the text and the end as numbers; a taught word stands for its own vectors."""
    tokenizer = base.pipeline.tokenizer
    if not base.words:
        return tokenizer(text, verbose=False).input_ids  # quiet about long texts
    start, end = tokenizer("").input_ids
    found: list[int] = []
    for piece in _pattern(base.words).split(text):
        own = base.words.get(piece.casefold())
        found += own or tokenizer(piece, add_special_tokens=False, verbose=False).input_ids
    return [start, *found, end]


def _pattern(words: Iterable[str]) -> re.Pattern[str]:
    """Any of the words, the longest first; where one begins or ends with a letter, so must it."""
    longest = sorted(words, key=len, reverse=True)
    whole = [
        (r"\b" if word[0].isalnum() else "")
        + re.escape(word)
        + (r"\b" if word[-1].isalnum() else "")
        for word in longest
    ]
    return re.compile(f"({'|'.join(whole)})", re.IGNORECASE)


def text_ids(base: Base, prompts: Sequence[str]) -> Tensor:
    """Token ids (prompts, length), padded as the pipeline does; a too long prompt is an error."""
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


def places(base: Base, prompt: str, phrase: str) -> list[slice]:
    """Where the phrase's tokens stand in the prompt, one slice for each time it is said."""
    ids = token_ids(base, prompt)
    wanted = token_ids(base, phrase)[1:-1]
    size = len(wanted)
    starts = range(len(ids) - size + 1) if size else ()
    return [slice(i, i + size) for i in starts if ids[i : i + size] == wanted]


def counted(
    base: Base, prompts: Sequence[str], phrases: Sequence[str], padding: Padding, tokens: Tokens
) -> Tensor:
    """1 for the tokens whose rows count, (prompts, length) of bool.

    ``first-eos`` leaves out the padding after the sentence's end token, which SD attends to as
    well. ``concept`` counts the tokens of the phrases alone; a prompt that says none of them is
    counted whole.
    """
    tokenizer = base.pipeline.tokenizer
    kept = torch.ones(len(prompts), tokenizer.model_max_length, dtype=torch.bool)
    for row, prompt in zip(kept, prompts, strict=True):
        if padding == "first-eos":
            row[len(token_ids(base, prompt)) :] = False
        said = [place for phrase in phrases for place in places(base, prompt, phrase)]
        if tokens == "concept" and said:
            row[:] = False
            for place in said:
                row[place] = True
    return kept

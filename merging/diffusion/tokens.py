"""Prompts as tokens: numbers for the text encoder, and which tokens a merge counts."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from merging.diffusion.base import Base
from merging.errors import MergeError
from merging.sweep import Padding, Tokens


def text_ids(base: Base, prompts: Sequence[str]) -> Tensor:
    """Token ids (prompts, length), padded as the pipeline does; a too long prompt is an error."""
    tokenizer = base.pipeline.tokenizer
    for prompt in prompts:
        used = len(tokenizer(prompt).input_ids)
        if used > tokenizer.model_max_length:
            raise MergeError(
                f"The prompt “{prompt[:60]}…” has {used} tokens and this base reads "
                f"{tokenizer.model_max_length}; shorten it."
            )
    ids = tokenizer(list(prompts), padding="max_length", return_tensors="pt").input_ids
    return ids.to(base.device)


def places(base: Base, prompt: str, phrase: str) -> list[slice]:
    """Where the phrase's tokens stand in the prompt, one slice for each time it is said."""
    tokenizer = base.pipeline.tokenizer
    ids = tokenizer(prompt).input_ids
    wanted = tokenizer(phrase, add_special_tokens=False).input_ids
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
            row[len(tokenizer(prompt).input_ids) :] = False
        said = [place for phrase in phrases for place in places(base, prompt, phrase)]
        if tokens == "concept" and said:
            row[:] = False
            for place in said:
                row[place] = True
    return kept

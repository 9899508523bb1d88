"""Words with vectors of their own, taught to the text encoder for a while.

The tokenizer stays as it is: merging/diffusion/tokens.py looks for the words before it is asked,
and gives them ids behind those of the vocabulary, where the encoder finds their vectors. So a word
is found in capitals or small letters, as A1111 finds it, and never inside another word.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from merging.diffusion.base import Base
from merging.embedding import Embedding, together
from merging.errors import MergeError


@contextmanager
def taught(base: Base, embeddings: Sequence[Embedding]) -> Iterator[None]:
    """The model with these words; untouched afterwards, even on error.

    Raises MergeError if two of them cannot be told apart, or one was made for another encoder.
    """
    new = together(embeddings)
    if not new:
        yield
        return
    encoder, known = base.pipeline.text_encoder, base.words
    rows = encoder.get_input_embeddings()
    _check_width(base, new, rows.weight.shape[1])
    vectors = torch.cat([each.vectors.to(rows.weight) for each in new])
    try:
        encoder.set_input_embeddings(
            nn.Embedding.from_pretrained(torch.cat([rows.weight.detach(), vectors]))
        )
        base.words = {**known, **_ids(new, len(rows.weight))}
        yield
    finally:
        encoder.set_input_embeddings(rows)
        base.words = known


def _ids(embeddings: Sequence[Embedding], first: int) -> dict[str, list[int]]:
    """Word, in small letters → the ids of its vectors."""
    found = {}
    for each in embeddings:
        found[each.word.casefold()] = list(range(first, first + len(each.vectors)))
        first += len(each.vectors)
    return found


def _check_width(base: Base, embeddings: Sequence[Embedding], wanted: int) -> None:
    for each in embeddings:
        if each.vectors.shape[1] != wanted:
            raise MergeError(
                f"{each.source}: the word {each.word} has vectors {each.vectors.shape[1]} wide, "
                f"the base {base.name} reads {wanted}; choose the base that it was trained for."
            )

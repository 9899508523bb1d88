"""Textual inversions, added to the text encoder for the time of a ``with`` block.

The tokenizer is not changed: merging/diffusion/tokens.py finds the words before tokenizing and
gives them ids after those of the vocabulary, where the encoder finds their vectors. As in A1111,
the case of letters does not matter; a word inside another word is not matched.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from merging.diffusion.base import Base
from merging.embedding import Embedding, distinct_embeddings
from merging.errors import MergeError


@contextmanager
def using_embeddings(base: Base, embeddings: Sequence[Embedding]) -> Iterator[None]:
    """The base with these textual inversions; untouched afterwards, even on error.

    Raises MergeError if two have the same word, or one was made for another text encoder.
    """
    new = distinct_embeddings(embeddings)
    if not new:
        yield
        return
    encoder, known = base.pipeline.text_encoder, base.embedding_ids
    rows = encoder.get_input_embeddings()
    _check_width(base, new, rows.weight.shape[1])
    vectors = torch.cat([embedding.vectors.to(rows.weight) for embedding in new])
    try:
        encoder.set_input_embeddings(
            nn.Embedding.from_pretrained(torch.cat([rows.weight.detach(), vectors]))
        )
        base.embedding_ids = {**known, **_ids(new, len(rows.weight))}
        yield
    finally:
        encoder.set_input_embeddings(rows)
        base.embedding_ids = known


def _ids(embeddings: Sequence[Embedding], first: int) -> dict[str, list[int]]:
    """Word, in small letters → the ids of its vectors, from ``first`` on."""
    ids = {}
    for embedding in embeddings:
        count = len(embedding.vectors)
        ids[embedding.word.casefold()] = list(range(first, first + count))
        first += count
    return ids


def _check_width(base: Base, embeddings: Sequence[Embedding], width: int) -> None:
    for embedding in embeddings:
        size = embedding.vectors.shape[1]
        if size != width:
            raise MergeError(
                f"{embedding.source}: the textual inversion {embedding.word} has vectors {size} "
                f"wide, the base {base.name} needs {width}; choose the base that it was trained "
                "for."
            )

"""A visitor's order as the library's request: its files read, its strengths applied."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch

from app.prompts import own_prompts
from app.schemas.card import misfit
from app.schemas.merge import MergeOrder, SelectedFile
from merging import formats
from merging.embedding import Embedding
from merging.errors import MergeError
from merging.formats import LayerTable
from merging.options import option_values
from merging.request import MergeRequest, Source

Weights = Callable[[str], torch.Tensor | None]  # of the base, for files that depend on them


def request_of(order: MergeOrder, weights: Weights) -> MergeRequest:
    """The order as the library has it, its files read; MergeError for what cannot be merged."""
    sources = _sources(order, weights)
    return MergeRequest(
        sources=sources,
        embeddings=words_of(order.words, formats.table(sources[0].adapter.base)),
        **option_values(order),
    )


def _sources(order: MergeOrder, weights: Weights) -> tuple[Source, ...]:
    """The LoRAs of the request; a visitor's own prompts go to the concepts that they name."""
    sources = [source_of(pick, order.base, weights) for pick in order.picks]
    typed = own_prompts([source.phrase for source in sources], order.prompts)
    return tuple(
        replace(source, trigger=source.phrase, prompts=pick.prompts or lines)
        for pick, source, lines in zip(order.picks, sources, typed, strict=True)
    )


def source_of(pick: SelectedFile, base: str, weights: Weights) -> Source:
    """The pick, read and weighed; MergeError if it was made for another base than the chosen."""
    own = pick.weighed
    adapter = formats.read(own.path, name=f"{pick.name}.safetensors", weights=weights)
    wrong = misfit(adapter.name, adapter.base, base)
    if wrong:
        raise MergeError(wrong)
    return replace(own.of(adapter, pick.origin), trigger=pick.trigger)


def words_of(words: Sequence[SelectedFile], table: LayerTable) -> tuple[Embedding, ...]:
    """Textual inversions by the words that the visitor calls them; MergeError for other bases'."""
    return tuple(
        replace(each, origin=pick.origin)
        for pick in words
        for each in formats.read_embeddings(
            pick.path, table, f"{pick.name}.safetensors", pick.trigger
        )
    )

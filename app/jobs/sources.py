"""Reads a visitor's order into a request of the library."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch

from app.prompts import split_prompts
from app.schemas.card import misfit
from app.schemas.merge import MergeOrder, SelectedFile
from merging import formats
from merging.adapter import Adapter
from merging.embedding import Embedding
from merging.errors import MergeError
from merging.formats import LayerTable
from merging.options import option_values
from merging.request import MergeRequest, Source

Weights = Callable[[str], torch.Tensor | None]  # of the base, for files that depend on them


def read_request(order: MergeOrder, weights: Weights) -> MergeRequest:
    """Read the order's files into a request; MergeError for what cannot be merged."""
    sources = _sources(order, weights)
    return MergeRequest(
        sources=sources,
        embeddings=read_embeddings(order.words, formats.table(sources[0].adapter.base)),
        **option_values(order),
    )


def outline(order: MergeOrder) -> MergeRequest:
    """The request with LoRAs that have no layers: what it costs, without reading any file."""
    bare = [Adapter(pick.name, {}, base=order.base, trigger=pick.trigger) for pick in order.picks]
    lines = split_prompts([pick.trigger for pick in order.picks], order.prompts)
    sources = [
        Source(adapter, prompts=pick.prompts or prompts)
        for adapter, pick, prompts in zip(bare, order.picks, lines, strict=True)
    ]
    return MergeRequest(sources=tuple(sources), **option_values(order))


def _sources(order: MergeOrder, weights: Weights) -> tuple[Source, ...]:
    """The LoRAs of the request; the visitor's prompts go to the concepts that they name."""
    sources = [read_source(pick, order.base, weights) for pick in order.picks]
    prompts = split_prompts([source.phrase for source in sources], order.prompts)
    return tuple(
        replace(source, trigger=source.phrase, prompts=pick.prompts or lines)
        for pick, source, lines in zip(order.picks, sources, prompts, strict=True)
    )


def read_source(pick: SelectedFile, base: str, weights: Weights) -> Source:
    """Read a LoRA with its strengths; MergeError if it was made for another base model."""
    file = pick.lora_input
    adapter = formats.read(file.path, name=f"{pick.name}.safetensors", weights=weights)
    problem = misfit(adapter.name, adapter.base, base)
    if problem:
        raise MergeError(problem)
    return replace(file.source_of(adapter, pick.origin), trigger=pick.trigger)


def read_embeddings(files: Sequence[SelectedFile], table: LayerTable) -> tuple[Embedding, ...]:
    """Read textual inversions under the visitor's words; MergeError for another base model's."""
    return tuple(
        replace(embedding, origin=pick.origin)
        for pick in files
        for embedding in formats.read_embeddings(
            pick.path, table, f"{pick.name}.safetensors", pick.trigger
        )
    )

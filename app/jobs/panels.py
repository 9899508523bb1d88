"""The columns of a comparison: which adapters each is drawn with."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from app.jobs.sources import source_of, words_of
from app.schemas.draw import DrawOrder
from merging import formats
from merging.adapter import Adapter
from merging.diffusion.base import Base
from merging.embedding import Embedding
from merging.io.files import RECIPE_KEY
from merging.options import Compose
from merging.request import Source

Weighted = tuple[Adapter, float]  # with its strength


@dataclass(frozen=True)
class Panel:
    """One column: a title, and what is drawn with."""

    title: str
    adapters: list[Weighted]
    compose: Compose = "sum"
    recipe: str = ""  # of the merge, for its pictures to carry
    embeddings: tuple[Embedding, ...] = ()  # textual inversions that its prompts may name


def panels(order: DrawOrder, base: Base) -> list[Panel]:
    """The chosen columns in their usual order, then the merges of before."""
    typed = words_of(order.words, base.table)
    chosen = [replace(panel, embeddings=typed) for panel in _chosen(order, base)]
    return chosen + [
        _merge(other.title, other.path, words_of(other.embeddings, base.table))
        for other in order.others
    ]


def _chosen(order: DrawOrder, base: Base) -> Iterator[Panel]:
    """The base, the LoRAs apart and together, and their merge, as far as they are wanted."""
    sources = [source_of(pick, order.base, base.weight) for pick in order.picks]
    loras = [(_triggered(source), source.strength) for source in sources]
    if "base" in order.columns:
        yield Panel("Base model", [])
    if "each" in order.columns:
        for adapter, strength in loras:
            yield Panel(f"{adapter.name} alone", [(adapter, strength)])
    if "sum" in order.columns:
        yield Panel("All together (sum)", loras)
    if "gated" in order.columns:
        yield Panel("Gated, no merge", loras, "gated")
    if "merged" in order.columns and order.merged is not None:
        bundled = tuple(word for adapter, _ in loras for word in adapter.embeddings)
        yield _merge(f"Merged ({order.method})", order.merged, bundled)


def _merge(title: str, file: Path, embeddings: tuple[Embedding, ...]) -> Panel:
    """A merge from its file, with the textual inversions that it was made with."""
    merged = replace(formats.read(file, name=file.stem), embeddings=embeddings)
    recipe = merged.metadata.get(RECIPE_KEY, "")
    return Panel(title, [(merged, 1.0)], recipe=recipe)


def _triggered(source: Source) -> Adapter:
    """The weighted adapter, its trigger the words that the visitor typed."""
    return replace(source.weighted_adapter, trigger=source.phrase)

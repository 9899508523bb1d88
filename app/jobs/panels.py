"""The columns of a comparison and the adapters of each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from app.jobs.sources import read_embeddings, read_source
from app.schemas.draw import DrawOrder
from merging import formats
from merging.adapter import Adapter
from merging.diffusion.base import Base
from merging.diffusion.compose import COMPOSITIONS
from merging.embedding import Embedding
from merging.io.files import RECIPE_KEY
from merging.request import Source

Weighted = tuple[Adapter, float]  # with its strength


@dataclass(frozen=True)
class Panel:
    """One column: its title, adapters and textual inversions."""

    title: str
    column: str  # of COLUMNS, or "other" for an earlier merge
    adapters: list[Weighted]
    compose: str = "sum"  # a name of COMPOSITIONS
    recipe: str = ""  # of the merge, saved in its pictures
    embeddings: tuple[Embedding, ...] = ()  # textual inversions for its prompts


def panels(order: DrawOrder, base: Base) -> list[Panel]:
    """The chosen columns in their order, then earlier merges."""
    embeddings = read_embeddings(order.words, base.table)
    chosen = [replace(panel, embeddings=embeddings) for panel in _chosen(order, base)]
    return chosen + [
        _merge(other.title, "other", other.path, read_embeddings(other.embeddings, base.table))
        for other in order.others
    ]


def _chosen(order: DrawOrder, base: Base) -> Iterator[Panel]:
    """Columns of the base model, the LoRAs alone and together, and their merge, if chosen."""
    sources = [read_source(pick, order.base, base.weight) for pick in order.picks]
    loras = [(_with_trigger(source), source.strength) for source in sources]
    if "base" in order.columns:
        yield Panel("Base model", "base", [])
    if "each" in order.columns:
        for adapter, strength in loras:
            yield Panel(f"{adapter.name} alone", "each", [(adapter, strength)])
    for name, row in COMPOSITIONS.items():
        if name in order.columns:
            yield Panel(row.title, name, loras, name)
    if "merged" in order.columns and order.merged is not None:
        bundled = tuple(word for adapter, _ in loras for word in adapter.embeddings)
        yield _merge(f"Merged ({order.method})", "merged", order.merged, bundled)


def _merge(title: str, column: str, file: Path, embeddings: tuple[Embedding, ...]) -> Panel:
    """A merge from its file, with the textual inversions that it was made with."""
    merged = replace(formats.read(file, name=file.stem), embeddings=embeddings)
    recipe = merged.metadata.get(RECIPE_KEY, "")
    return Panel(title, column, [(merged, 1.0)], recipe=recipe)


def _with_trigger(source: Source) -> Adapter:
    """The weighted adapter, with the trigger that the visitor typed."""
    return replace(source.weighted_adapter, trigger=source.phrase)

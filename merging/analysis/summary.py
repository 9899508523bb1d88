"""What an adapter file is, as plain data: for ``inspect``, for the page's cards, for a report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypedDict, final

from merging import formats
from merging.adapter import Adapter
from merging.block_weights import BLOCKS
from merging.blocks import blocks
from merging.errors import MergeError
from merging.formats.families.layer_tensors import BaseWeights
from merging.formats.layer_tables import table_of
from merging.formats.overview import Overview, overview
from merging.io.files import file_sha256, read_recipe

# Larger files are not hashed if only the header is read: 16 MiB take about a tenth of a second
# where the processor has no instructions for it.
MAX_HASHED_BYTES = 16 << 20


@final
class EmbeddingSummary(TypedDict):
    """The summary of a file that has textual inversions only."""

    name: str
    bytes: int
    family: str
    base: str
    embeddings: dict[str, int]  # word → vectors
    sha256: str
    warnings: list[str]


class HeaderSummary(TypedDict):
    """What a LoRA's header says: names, counts, trigger words, hashes, and unusable keys."""

    name: str
    bytes: int
    family: str
    base: str
    needs_base: bool
    layers: dict[str, int]  # part → layers that the file changes
    base_layers: dict[str, int]  # part → layers that the base has
    unmatched: list[str]
    dropped: dict[str, int]  # kind of key that is left out → how many
    left_out: dict[str, list[str]]  # the same keys by name
    embeddings: dict[str, int]
    shifts: dict[str, int]
    ranks: list[int]
    alphas: list[float]
    rank_counts: dict[str, int]
    alpha_counts: dict[str, int]
    dtypes: dict[str, int]
    trigger: str
    class_word: str
    trained_words: dict[str, list[str]]
    hashes: dict[str, str]
    warnings: list[str]
    recipe: dict[str, Any] | None


@final
class LoraSummary(HeaderSummary, total=False):
    """The header's summary, and that of the weights if they were read."""

    sha256: str | None  # always there; None for a large file whose weights were not read
    parameters: int
    block_norms: dict[str, float]  # block → ‖Δ‖


Summary = EmbeddingSummary | LoraSummary


def summary(path: Path, values: bool = False, weights: BaseWeights | None = None) -> Summary:
    """The summary of an adapter file from its header; with ``values`` from its weights too.

    A file of textual inversions has their words and vectors. ``weights`` of the base model are
    needed with ``values`` only, and by some families only. Raises MergeError for other files.
    """
    try:
        file = overview(path)
    except MergeError:
        if embeddings := _embeddings(path):
            return embeddings
        raise
    if values:
        return _with_values(_header(file), formats.read(path, weights=weights))
    sha256 = file_sha256(path) if file.file_bytes <= MAX_HASHED_BYTES else None
    return {**_header(file), "sha256": sha256}


def _embeddings(path: Path) -> EmbeddingSummary | None:
    """The summary of a file that has textual inversions only; None for any other file."""
    if (alone := formats.read_embedding_file(path)) is None:
        return None
    base, embeddings = alone
    return {
        "name": embeddings[0].source,
        "bytes": path.stat().st_size,
        "family": "textual inversion",
        "base": base,
        "embeddings": {embedding.word: len(embedding.vectors) for embedding in embeddings},
        "sha256": embeddings[0].sha256,
        "warnings": [],
    }


def _header(overview: Overview) -> HeaderSummary:
    return {
        "name": overview.name,
        "bytes": overview.file_bytes,
        "family": overview.family,
        "base": overview.base,
        "needs_base": overview.needs_base,
        "layers": dict(overview.matched),
        "base_layers": dict(overview.known),
        "unmatched": list(overview.unmatched),
        "dropped": {kind: len(keys) for kind, keys in overview.unused.items()},
        "left_out": {kind: list(keys) for kind, keys in overview.unused.items()},
        "embeddings": dict(overview.embeddings),
        "shifts": dict(overview.shifts),
        "ranks": sorted(overview.ranks),
        "alphas": sorted(overview.alphas),
        "rank_counts": _histogram(overview.ranks),
        "alpha_counts": _histogram(overview.alphas),
        "dtypes": dict(overview.dtypes),
        "trigger": overview.trigger,
        "class_word": overview.class_word,
        "trained_words": {field: list(words) for field, words in overview.trained_words.items()},
        "hashes": dict(overview.hashes),
        "warnings": list(overview.warnings),
        "recipe": read_recipe(overview.metadata),
    }


def _histogram(counts: Mapping[Any, int]) -> dict[str, int]:
    """Number of layers by value, the smallest value first."""
    return {f"{value:g}": counts[value] for value in sorted(counts)}


def _with_values(header: HeaderSummary, adapter: Adapter) -> LoraSummary:
    """The header's summary with figures of the weights: true ranks, norms by block, parameters."""
    layers = adapter.layers.values()
    ranks = Counter(layer.rank for layer in layers)
    vectors = (vector for delta in adapter.shifts.values() for vector in delta.vectors().values())
    return {
        **header,
        "sha256": adapter.sha256,
        "parameters": sum(layer.up.numel() + layer.down.numel() for layer in layers)
        + sum(vector.numel() for vector in vectors),
        "ranks": sorted(ranks),
        "rank_counts": _histogram(ranks),
        "block_norms": block_norms(adapter),
    }


def block_norms(adapter: Adapter) -> dict[str, float]:
    """‖Δ‖ of all layers of a block together, by block; "rest": layers outside all blocks."""
    block_of = blocks(table_of(adapter))
    energy: dict[str, float] = {}
    for name, layer in adapter.layers.items():
        block = block_of.get(name, "rest")
        energy[block] = energy.get(block, 0.0) + layer.energy
    return {block: energy[block] ** 0.5 for block in (*BLOCKS, "rest") if block in energy}

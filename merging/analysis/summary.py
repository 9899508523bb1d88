"""What an adapter file is, as plain data: for ``inspect``, for the page's cards, for a report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypedDict, final

from merging import formats
from merging.adapter import Adapter, LoraLayer, factor_energy
from merging.block_weights import BLOCKS
from merging.blocks import blocks
from merging.errors import MergeError
from merging.formats.families.layer_tensors import BaseWeights
from merging.formats.layer_tables import table_of
from merging.formats.overview import Overview, overview
from merging.io.files import file_sha256, read_recipe

# Files up to here are hashed even if only the header is asked for: 16 MiB take about a tenth of a
# second where the processor has no instructions for it.
HASHED = 16 << 20


@final
class EmbeddingSummary(TypedDict):
    """What a file of textual inversions alone says."""

    name: str
    bytes: int
    family: str
    base: str
    embeddings: dict[str, int]  # word → vectors
    sha256: str
    warnings: list[str]


class HeaderSummary(TypedDict):
    """What a LoRA's header says: names, counts, words, hashes, and what cannot be used."""

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
    """The header, and what the weights say where they were read."""

    sha256: str | None  # always there; None: the file is large, and its values were not wanted
    parameters: int
    block_norms: dict[str, float]  # block → ‖Δ‖


Summary = EmbeddingSummary | LoraSummary


def summary(path: Path, values: bool = False, weights: BaseWeights | None = None) -> Summary:
    """Everything that a file says of itself; with ``values``, what its weights say too.

    Of a textual inversion on its own: its words, by number of vectors.
    ``weights`` of the base model are needed only with ``values``, and by some families only.
    """
    try:
        found = overview(path)
    except MergeError:
        if embeddings := _embeddings(path):
            return embeddings
        raise
    if values:
        return _with_values(_header(found), formats.read(path, weights=weights))
    sha256 = file_sha256(path) if found.file_bytes <= HASHED else None
    return {**_header(found), "sha256": sha256}


def _embeddings(path: Path) -> EmbeddingSummary | None:
    """Of a file of textual inversions alone; None for any other."""
    if (alone := formats.read_embedding_file(path)) is None:
        return None
    base, found = alone
    return {
        "name": found[0].source,
        "bytes": path.stat().st_size,
        "family": "textual inversion",
        "base": base,
        "embeddings": {each.word: len(each.vectors) for each in found},
        "sha256": found[0].sha256,
        "warnings": [],
    }


def _header(found: Overview) -> HeaderSummary:
    return {
        "name": found.name,
        "bytes": found.file_bytes,
        "family": found.family,
        "base": found.base,
        "needs_base": found.needs_base,
        "layers": dict(found.matched),
        "base_layers": dict(found.known),
        "unmatched": list(found.unmatched),
        "dropped": {kind: len(keys) for kind, keys in found.unused.items()},
        "left_out": {kind: list(keys) for kind, keys in found.unused.items()},
        "embeddings": dict(found.embeddings),
        "shifts": dict(found.shifts),
        "ranks": sorted(found.ranks),
        "alphas": sorted(found.alphas),
        "rank_counts": _histogram(found.ranks),
        "alpha_counts": _histogram(found.alphas),
        "dtypes": dict(found.dtypes),
        "trigger": found.trigger,
        "class_word": found.class_word,
        "trained_words": {field: list(words) for field, words in found.trained_words.items()},
        "hashes": dict(found.hashes),
        "warnings": list(found.warnings),
        "recipe": read_recipe(found.metadata),
    }


def _histogram(counts: Mapping[Any, int]) -> dict[str, int]:
    """How many layers have each value, the smallest value first."""
    return {f"{value:g}": counts[value] for value in sorted(counts)}


def _with_values(header: HeaderSummary, adapter: Adapter) -> LoraSummary:
    """With what only the weights can tell: the ranks they really have, how strong each block is."""
    layers = adapter.layers.values()
    ranks = Counter(layer.rank for layer in layers)
    vectors = (each for own in adapter.shifts.values() for each in own.vectors().values())
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
    """‖Δ‖ of all layers of a block together, in the order of the blocks; "rest" lies in none."""
    places = blocks(table_of(adapter))
    energy: dict[str, float] = {}
    for name, layer in adapter.layers.items():
        place = places.get(name, "rest")
        energy[place] = energy.get(place, 0.0) + _energy(layer)
    return {place: energy[place] ** 0.5 for place in (*BLOCKS, "rest") if place in energy}


def _energy(layer: LoraLayer) -> float:
    """‖Δ‖²."""
    return layer.scale**2 * factor_energy(layer.up.double(), layer.down.double())

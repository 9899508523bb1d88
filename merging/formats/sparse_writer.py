"""Write changes of few entries as peft's SHiRA: numbers with their places, and peft's settings.

peft has one r for all layers of a model: a layer has r · (out + in) places, zeros among them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from merging.adapter import Adapter
from merging.errors import MergeError
from merging.formats.half_precision import stored_deltas
from merging.formats.layer_tables import LayerTable, spellings, table_of
from merging.formats.metadata import diffusers_header
from merging.formats.peft_settings import PEFT_PREFIX
from merging.formats.serialise import serialise_with_hashes
from merging.formats.vector_deltas import count_by_kind, describe_counts, vector_lengths
from merging.formats.verify import Written, verify_file
from merging.formats.writer import NO_METADATA, WRITERS
from merging.io.atomic_write import write_checked, write_whole
from merging.io.files import PEFT_WEIGHTS, peft_config_path

# Share of ‖Δ‖ in entries that are left out: factors in float32 leave some where Δ has none.
ROUNDING = 1e-6
# Share of a layer's entries above which whole float32 numbers take less than numbers with places.
MOST = 1 / 3


@dataclass(frozen=True)
class SparseLayer:
    """The entries of one layer that are not zero, row by row."""

    values: Tensor  # (entries,)
    places: Tensor  # (entries,), row · in + column
    shape: tuple[int, int]

    @property
    def share(self) -> float:
        """Of all entries."""
        return len(self.values) / (self.shape[0] * self.shape[1])

    @property
    def rank(self) -> int:
        """The smallest r of peft that has room for them."""
        return -(-len(self.values) // sum(self.shape))

    @property
    def largest_rank(self) -> int:
        """The largest r that peft takes for this layer."""
        return self.shape[0] * self.shape[1] // sum(self.shape)

    def tensors(self, rank: int) -> tuple[Tensor, Tensor]:
        """The numbers, and their rows and columns (2, entries); zeros fill them up to r."""
        entries = self.values.new_zeros(self.shape[0] * self.shape[1])
        entries[self.places] = self.values
        used = torch.zeros(len(entries), dtype=torch.bool)
        used[self.places] = True
        free = (~used).nonzero().flatten()[: rank * sum(self.shape) - len(self.places)]
        used[free] = True
        places = used.nonzero().flatten()
        rows, columns = places // self.shape[1], places % self.shape[1]
        return entries[places], torch.stack([rows, columns]).int()


def write_shira(
    adapter: Adapter, path: Path, dtype: torch.dtype, metadata: Mapping[str, str] = NO_METADATA
) -> Written:
    """Write the folder that peft loads: adapter_model.safetensors with adapter_config.json.

    Raises as `write_kohya` does, and for another name of the file, for changes that are not sparse,
    and for what SHiRA cannot hold.
    """
    if path.name != PEFT_WEIGHTS:
        raise MergeError(
            f"peft loads SHiRA from a folder: write FOLDER/{PEFT_WEIGHTS}, not {path.name}."
        )
    table = table_of(adapter)
    layers = _sparse_layers(adapter, table, dtype)
    rank = _common_rank(layers)
    tensors: dict[str, Tensor] = {}
    for name, layer in layers.items():
        stem = f"{PEFT_PREFIX}{_module(name)}"
        values, indices = layer.tensors(rank)
        tensors |= {f"{stem}.shira_weight": values, f"{stem}.shira_indices": indices}
    content = serialise_with_hashes(tensors, diffusers_header(adapter, table, metadata))
    omitted = describe_counts(count_by_kind(vector_lengths(adapter.shifts)))
    meant = replace(adapter, shifts={})
    path.parent.mkdir(exist_ok=True)
    written = write_checked(
        path,
        content,
        lambda temporary: verify_file(temporary, path.name, meant, table, (), without=omitted),
    )
    write_whole(peft_config_path(path), _config(rank, list(map(_module, layers))))
    return replace(written, programs=("peft",))


# Three formats for every adapter, and one for sparse changes.
ALL_WRITERS = {**WRITERS, "shira": write_shira}


def _sparse_layers(
    adapter: Adapter, table: LayerTable, dtype: torch.dtype
) -> dict[str, SparseLayer]:
    """The entries of all layers; MergeError for layers that SHiRA does not have."""
    layers = {name: _sparse(delta) for name, delta in stored_deltas(adapter, dtype).items()}
    for name, layer in layers.items():
        if len(table.shapes[name]) > 2:
            raise MergeError(
                f"Layer {name} is a convolution, and peft's SHiRA changes linear layers alone; "
                "choose another format."
            )
        if layer.share > MOST:
            raise MergeError(
                f"SHiRA holds sparse changes, and {layer.share:.0%} of the entries of layer {name} "
                f"are not zero; above {MOST:.0%} the format full is smaller: choose that one."
            )
    if len({name.partition(".")[0] for name in layers}) > 1:
        raise MergeError(
            "peft loads SHiRA for the UNet from one folder and for the text encoder from another: "
            "write one after the other, with FILE@1:te=0 and FILE@1:unet=0."
        )
    return layers


def _sparse(delta: Tensor) -> SparseLayer:
    """The entries of Δ without those that rounding makes of zeros."""
    entries = delta.flatten()
    energies = entries.double().square()
    order = energies.argsort(stable=True)
    lost = energies[order].cumsum(0)
    places = order[lost > ROUNDING**2 * lost[-1]].sort().values
    return SparseLayer(entries[places], places, (delta.shape[0], delta.shape[1]))


def _common_rank(layers: Mapping[str, SparseLayer]) -> int:
    """The r of all layers; MergeError if one is too small for it."""
    fullest = max(layers, key=lambda name: layers[name].rank)
    smallest = min(layers, key=lambda name: layers[name].largest_rank)
    rank, most = layers[fullest].rank, layers[smallest].largest_rank
    if rank > most:
        raise MergeError(
            f"peft has one r for all layers, but layer {fullest} needs {rank} for "
            f"{layers[fullest].share:.0%} of its entries, and layer {smallest} has room for "
            f"{most}; choose another format."
        )
    return rank


def _module(layer: str) -> str:
    """The module's name in its model, as transformers 5 and diffusers have it."""
    return spellings(layer)[-1].partition(".")[2]


def _config(rank: int, modules: list[str]) -> bytes:
    """peft's settings, as its ShiraConfig saves them."""
    settings = {
        "peft_type": "SHIRA",
        "r": rank,
        "target_modules": modules,
        "mask_type": "random",  # replaced by the places in the file when peft loads it
        "fan_in_fan_out": False,
        "init_weights": True,
        "inference_mode": True,
        "modules_to_save": None,
    }
    return (json.dumps(settings, indent=2) + "\n").encode()

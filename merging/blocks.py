"""The block of every layer, and block weights applied to an adapter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from merging.adapter import Adapter
from merging.errors import MergeError
from merging.formats.key_names.ldm import modules
from merging.formats.layer_tables import LayerTable, table_of


def blocks(table: LayerTable) -> dict[str, str]:
    """Layer or normalisation → its block; those outside all blocks are left out."""
    places = {module: "BASE" for module in table.modules if module.startswith("text_encoder.")}
    for name, module in modules(table).items():
        side, _, rest = name.partition(".")
        if side == "middle_block":
            places[module] = "M00"
        elif side in ("input_blocks", "output_blocks"):
            kind = "IN" if side == "input_blocks" else "OUT"
            places[module] = f"{kind}{int(rest.partition('.')[0]):02d}"
    return places


def apply_block_weights(
    adapter: Adapter,
    text_encoder: float = 1.0,
    unet: float = 1.0,
    weights: Mapping[str, float] | None = None,
) -> Adapter:
    """The adapter with its changes multiplied by the weights of their part and block.

    ``weights`` is a result of `block_weights`; blocks that it lacks get 0. Layers at 0 are left
    out. Raises MergeError if none remains.
    """
    places = blocks(table_of(adapter)) if weights is not None else {}

    def strength(name: str) -> float:
        part = text_encoder if name.startswith("text_encoder.") else unet
        return part if name not in places else part * (weights or {}).get(places[name], 0.0)

    layers = {
        name: replace(layer, alpha=strength(name) * layer.alpha)
        for name, layer in adapter.layers.items()
        if strength(name)
    }
    shifts = {
        name: shift.scaled(strength(name))
        for name, shift in adapter.shifts.items()
        if strength(name)
    }
    if not layers:
        raise MergeError(
            f"{adapter.name}: its part and block weights are 0 for all of its layers; raise the "
            "weight of one that it changes."
        )
    return replace(adapter, layers=layers, shifts=shifts)

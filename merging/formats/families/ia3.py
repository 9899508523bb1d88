"""IA³ (LyCORIS): Δ = W0 with its output rows, or its input channels, times stored numbers."""

from __future__ import annotations

from math import prod

from merging.adapter import LoraLayer
from merging.errors import MergeError
from merging.formats.families.exact_factors import factorise_matrix
from merging.formats.families.layer_tensors import (
    LayerTensors,
    Misfit,
    Shapes,
    missing_tensor,
    wrong_shape,
)
from merging.formats.layer_tables import Shape, flat

TITLE = "IA³"
MARKS = ("weight", "on_input")
NEEDS_BASE = True


def misfit(shapes: Shapes, weight: Shape, base: str) -> Misfit | None:
    """The misfit of a layer's shapes, None if they fit."""
    if missing := missing_tensor(shapes, *MARKS):
        return missing
    # the value of on_input, not the shape, says which of the two it is
    if prod(shapes["weight"]) not in weight[:2] or max(shapes["weight"]) not in weight[:2]:
        return wrong_shape(shapes, ["weight"], weight, base)
    return None


def rank(shapes: Shapes, weight: Shape) -> int:
    """0: IA³ has no rank."""
    return 0


def change(layer: LayerTensors) -> LoraLayer:
    """The base's weights, scaled row by row or channel by channel."""
    numbers = layer.tensors["weight"].flatten()
    by_input = bool(layer.tensors["on_input"].any())
    if len(numbers) != layer.shape[by_input]:
        side = "inputs" if by_input else "outputs"
        raise MergeError(
            f"{layer.file}: layer {layer.name} has {len(numbers)} numbers for its "
            f"{layer.shape[by_input]} {side}; the file is damaged."
        )
    kernel = layer.base.reshape(*layer.shape[:2], -1)
    factors = numbers[None, :, None] if by_input else numbers[:, None, None]
    return factorise_matrix((kernel * factors).reshape(flat(layer.shape)))

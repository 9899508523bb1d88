"""Full differences (LyCORIS "full", ComfyUI's extraction): ``diff`` is Δ itself, without alpha."""

from __future__ import annotations

from math import prod

from merging.adapter import LoraLayer
from merging.formats.families.exact_factors import factorise_matrix
from merging.formats.families.layer_tensors import LayerTensors, Misfit, Shapes, wrong_shape
from merging.formats.layer_tables import Shape

TITLE = "full difference"
MARKS = ("diff",)
NEEDS_BASE = False


def misfit(shapes: Shapes, weight: Shape, base: str) -> Misfit | None:
    """The misfit of the shape, None if it fits."""
    shape = shapes["diff"]
    if shape[0] == weight[0] and prod(shape) == prod(weight):  # a kernel may be flattened
        return None
    return wrong_shape(shapes, ["diff"], weight, base)


def rank(shapes: Shapes, weight: Shape) -> int:
    """0: the rank depends on the values."""
    return 0


def change(layer: LayerTensors) -> LoraLayer:
    """The difference as factors of the smallest rank."""
    return factorise_matrix(layer.tensors["diff"].flatten(1))

"""Whole weights, as PEFT saves the modules that it trains without factors: Δ is theirs minus W0."""

from __future__ import annotations

from merging.adapter import LoraLayer
from merging.formats.families.exact_factors import factorise_matrix
from merging.formats.families.layer_tensors import LayerTensors, Misfit, Shapes, wrong_shape
from merging.formats.families.roles import WHOLE_WEIGHT
from merging.formats.layer_tables import Shape

TITLE = "whole weight"
MARKS = (WHOLE_WEIGHT,)
NEEDS_BASE = True


def misfit(shapes: Shapes, weight: Shape, base: str) -> Misfit | None:
    """The misfit of the shape, None if it fits."""
    if shapes[WHOLE_WEIGHT] == weight:
        return None
    return wrong_shape(shapes, [WHOLE_WEIGHT], weight, base)


def rank(shapes: Shapes, weight: Shape) -> int:
    """0: the rank depends on the values."""
    return 0


def change(layer: LayerTensors) -> LoraLayer:
    """The difference from the base's weight as factors of the smallest rank."""
    return factorise_matrix(layer.tensors[WHOLE_WEIGHT].flatten(1) - layer.base)

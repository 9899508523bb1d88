"""Uni-LoRA of peft: every entry of all factors is one of a few numbers, times a scale.

θ[places] · scales, with the same θ for all layers (arXiv:2506.00799, section 3). The places and
scales are in the file if its trainer saved them (save_indices).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from merging.adapter import LoraLayer
from merging.formats.families.exact_factors import factorise_product
from merging.formats.families.layer_tensors import (
    LayerTensors,
    Misfit,
    Shapes,
    is_pointwise,
    missing_tensor,
    places,
    wrong_shape,
)
from merging.formats.layer_tables import Shape, flat

if TYPE_CHECKING:
    from torch import Tensor

TITLE = "Uni-LoRA"
PLACES = ("unilora_indices_A", "unilora_indices_B")
SCALES = ("unilora_scales_A", "unilora_scales_B")
MARKS = (*PLACES, *SCALES)
THETA = "unilora_theta_d"
SHARED = (THETA,)
NEEDS_BASE = False
WITHOUT_PLACES = (
    "Uni-LoRA without the places of its numbers (save_indices is off); merge it into a checkpoint "
    "with peft, and extract a LoRA from that"
)


def misfit(shapes: Shapes, weight: Shape, base: str) -> Misfit | None:
    """The misfit of a layer's shapes, None if they fit."""
    if missing := missing_tensor(shapes, *MARKS, THETA):
        return missing
    (out, wide), count = flat(weight), shapes[PLACES[0]][0]
    halves = ((count, wide), (out, count))
    same = tuple(shapes[role] for role in PLACES) == tuple(shapes[role] for role in SCALES)
    fits = tuple(shapes[role] for role in PLACES) == halves and len(shapes[THETA]) == 1
    if same and fits and is_pointwise(weight[2:]):
        return None
    return wrong_shape(shapes, [*MARKS, THETA], weight, base)


def rank(shapes: Shapes, weight: Shape) -> int:
    """0: Uni-LoRA has no alpha that a rank could divide."""
    return 0


def change(layer: LayerTensors) -> LoraLayer:
    """Both factors, of the smallest rank; MergeError for a place that θ does not have."""
    down, up = (_half(layer, *roles) for roles in zip(PLACES, SCALES, strict=True))
    return factorise_product(up, down)


def _half(layer: LayerTensors, where: str, scales: str) -> Tensor:
    theta = layer.tensors[THETA]
    return theta[places(layer, layer.tensors[where], len(theta))] * layer.tensors[scales]

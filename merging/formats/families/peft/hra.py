"""HRA of peft: the inputs of W0 are mirrored, once for each column of ``hra_u``.

Δ = W0 (I − 2 u₁u₁ᵀ) (I − 2 u₂u₂ᵀ) … − W0, with columns u of length 1 (arXiv:2405.17484, eq. 3).
With the setting ``apply_GS`` the columns are first made orthogonal to those before them.
"""

from __future__ import annotations

from merging.adapter import LoraLayer
from merging.formats.families.exact_factors import factorise_matrix
from merging.formats.families.layer_tensors import LayerTensors, Misfit, Shapes, wrong_shape
from merging.formats.layer_tables import Shape, flat

TITLE = "HRA"
MARKS = ("hra_u",)
NEEDS_BASE = True


def misfit(shapes: Shapes, weight: Shape, base: str) -> Misfit | None:
    """The misfit of the columns' shape, None if it fits."""
    shape = shapes["hra_u"]
    if len(shape) == 2 and shape[0] == flat(weight)[1] and 0 < shape[1] <= shape[0]:
        return None
    return wrong_shape(shapes, MARKS, weight, base)


def rank(shapes: Shapes, weight: Shape) -> int:
    """0: HRA has no alpha that a rank could divide."""
    return 0


def change(layer: LayerTensors) -> LoraLayer:
    """The base's weights by mirrored inputs, minus the base's weights."""
    import torch

    columns = layer.tensors["hra_u"]
    if layer.settings.get("apply_GS"):
        columns = torch.linalg.qr(columns).Q  # the same directions, some of them turned round
    mirrored = layer.base
    for column in (columns / columns.norm(dim=0)).T:
        mirrored = mirrored - 2 * torch.outer(mirrored @ column, column)
    return factorise_matrix(mirrored - layer.base)

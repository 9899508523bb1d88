"""GLoRA (LyCORIS): Δ = (alpha / r) · (W0 · a1 @ a2 + b1 @ b2).

a1 (in, r) and a2 (r, in) mix input channels, b1 (out, r) and b2 (r, in[, height, width]) are a
LoRA; in the first files the factors were swapped: a1 (r, in), a2 (in, r), b1 (r, in),
b2 (out, r).
"""

from __future__ import annotations

from merging.adapter import LoraLayer
from merging.formats.families.exact_factors import factorise_matrix, factorise_product
from merging.formats.families.layer_tensors import (
    LayerTensors,
    Misfit,
    Shapes,
    alpha_or_rank,
    is_pointwise,
    missing_tensor,
    shapes_clash,
    wrong_shape,
)
from merging.formats.layer_tables import Shape

TITLE = "GLoRA"
MARKS = ("a1.weight", "a2.weight", "b1.weight", "b2.weight", "bm.weight")
NEEDS_BASE = True


def misfit(shapes: Shapes, weight: Shape, base: str) -> Misfit | None:
    """The misfit of a layer's shapes, None if they fit."""
    if missing := missing_tensor(shapes, *MARKS[:4]):
        return missing
    if "bm.weight" in shapes:
        return Misfit("has bm.weight, a Tucker form that no known trainer writes; save it without")
    roles = _order(shapes, weight)
    a1, a2, b1, b2 = (shapes[role] for role in roles)
    expected = (weight[1], weight[1], weight[0], weight[1])
    if (a1[0], *a2[1:2], b1[0], *b2[1:2]) != expected or not _kernels_fit(a1, a2, b1, b2, weight):
        return wrong_shape(shapes, roles, weight, base)
    if not a1[1:2] == a2[:1] == b1[1:2] == b2[:1]:
        return shapes_clash(shapes, *roles)
    return None


def _kernels_fit(a1: Shape, a2: Shape, b1: Shape, b2: Shape, weight: Shape) -> bool:
    """Whether b2 alone has the weight's kernel."""
    if not all(is_pointwise(shape[2:]) for shape in (a1, a2, b1)):
        return False
    return b2[2:] == weight[2:] or (is_pointwise(weight[2:]) and is_pointwise(b2[2:]))


def _order(shapes: Shapes, weight: Shape) -> tuple[str, ...]:
    """The roles of a1, a2, b1 and b2 in the current meaning, for old files too."""
    current = shapes["b1.weight"][0] == weight[0] and shapes["b2.weight"][1:2] == weight[1:2]
    return MARKS[:4] if current else ("a2.weight", "a1.weight", "b2.weight", "b1.weight")


def rank(shapes: Shapes, weight: Shape) -> int:
    """The rank, by which alpha is divided."""
    return min(shapes["b1.weight"][:2])


def change(layer: LayerTensors) -> LoraLayer:
    """The change of the base's weights as factors of the smallest rank."""
    import torch

    order = _order({role: tuple(value.shape) for role, value in layer.tensors.items()}, layer.shape)
    a1, a2, b1, b2 = (layer.tensors[role].flatten(1) for role in order)
    scale = alpha_or_rank(layer.alpha, a2.shape[0]) / a2.shape[0]
    if is_pointwise(layer.shape[2:]):
        up = torch.cat([layer.base @ a1, b1], dim=1)
        return factorise_product(scale * up, torch.cat([a2, b2]))
    kernel = layer.base.reshape(layer.shape)
    mixed = torch.einsum("oihw,ir,rj->ojhw", kernel, a1, a2).flatten(1)
    return factorise_matrix(scale * (mixed + b1 @ b2))

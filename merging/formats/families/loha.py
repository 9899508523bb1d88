"""LoHa (LyCORIS): Δ = (alpha / r) · (w1_a @ w1_b) ∘ (w2_a @ w2_b), elementwise.

With Tucker decomposition each half is t (r, r, height, width) multiplied by w_a (r, out) and
w_b (r, in).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from merging.adapter import LoraLayer
from merging.formats.families.exact_factors import factorise_matrix, factorise_product
from merging.formats.families.layer_tensors import (
    LayerTensors,
    Misfit,
    Shapes,
    alpha_or_rank,
    missing_tensor,
    shapes_clash,
    wrong_shape,
)
from merging.formats.layer_tables import Shape, flat

if TYPE_CHECKING:
    from torch import Tensor

TITLE = "LoHa"
MARKS = ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "hada_t1", "hada_t2")
NEEDS_BASE = False


def misfit(shapes: Shapes, weight: Shape, base: str) -> Misfit | None:
    """The misfit of a layer's shapes, None if they fit."""
    tucker = ("hada_t1", "hada_t2") if shapes.keys() & {"hada_t1", "hada_t2"} else ()
    if missing := missing_tensor(shapes, *MARKS[:4], *tucker):
        return missing
    return _half_misfit(shapes, "1", weight, base) or _half_misfit(shapes, "2", weight, base)


def _half_misfit(shapes: Shapes, half: str, weight: Shape, base: str) -> Misfit | None:
    """The misfit of w1 or w2."""
    first, second, core = f"hada_w{half}_a", f"hada_w{half}_b", f"hada_t{half}"
    if len(shapes[first]) != 2 or len(shapes[second]) != 2:
        return shapes_clash(shapes, first, second)
    tucker = core in shapes
    out, rank = shapes[first][::-1] if tucker else shapes[first]
    if out != weight[0]:
        return wrong_shape(shapes, [first], weight, base)
    if shapes[second][1] != (weight[1] if tucker else flat(weight)[1]):
        return wrong_shape(shapes, [second], weight, base)
    if shapes[second][0] != rank:
        return shapes_clash(shapes, first, second)
    if tucker and shapes[core] != (rank, rank, *weight[2:]):
        return shapes_clash(shapes, core, first)
    return None


def rank(shapes: Shapes, weight: Shape) -> int:
    """The rank, by which alpha is divided."""
    return shapes["hada_w1_b"][0]


def change(layer: LayerTensors) -> LoraLayer:
    """The exact product of the two halves as factors of the smallest rank."""
    import torch

    values = layer.tensors
    r = values["hada_w1_b"].shape[0]
    scale = alpha_or_rank(layer.alpha, r) / r
    if "hada_t1" in values:
        one, two = (
            _tucker(values[f"hada_t{n}"], values[f"hada_w{n}_a"], values[f"hada_w{n}_b"])
            for n in "12"
        )
        return factorise_matrix(scale * one * two)
    a1, b1, a2, b2 = (values[role] for role in MARKS[:4])
    if r * r >= min(flat(layer.shape)):
        return factorise_matrix(scale * (a1 @ b1) * (a2 @ b2))
    # the elementwise product of two rank-r products has rank r²: factors multiplied pair by pair
    up = torch.einsum("op,oq->opq", a1, a2).flatten(1)
    down = torch.einsum("pi,qi->pqi", b1, b2).flatten(0, 1)
    return factorise_product(scale * up, down)


def _tucker(core: Tensor, outer: Tensor, inner: Tensor) -> Tensor:
    """One half (out, in · height · width), from its core and its two factors."""
    import torch

    return torch.einsum("pqhw,po,qi->oihw", core, outer, inner).flatten(1)

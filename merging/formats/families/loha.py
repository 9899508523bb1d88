"""LoHa (LyCORIS): Δ = (alpha / r) · (w1_a @ w1_b) ∘ (w2_a @ w2_b), elementwise.

With Tucker decomposition each half is t (r, r, height, width) with w_a (r, out) and w_b (r, in) on
its two sides.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from merging.adapter import LoraLayer
from merging.formats.families.exact_factors import of_matrix, of_product
from merging.formats.families.layer_tensors import (
    Misfit,
    Part,
    Shapes,
    clash,
    lacks,
    misplaced,
    over,
)
from merging.formats.layer_tables import Shape, flat

if TYPE_CHECKING:
    from torch import Tensor

TITLE = "LoHa"
MARKS = ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "hada_t1", "hada_t2")
NEEDS_BASE = False


def misfit(shapes: Shapes, weight: Shape, base: str) -> Misfit | None:
    """What is wrong with the shapes of one layer, if anything is."""
    tucker = ("hada_t1", "hada_t2") if shapes.keys() & {"hada_t1", "hada_t2"} else ()
    if missing := lacks(shapes, *MARKS[:4], *tucker):
        return missing
    return _half(shapes, "1", weight, base) or _half(shapes, "2", weight, base)


def _half(shapes: Shapes, half: str, weight: Shape, base: str) -> Misfit | None:
    """The same for w1 or w2."""
    first, second, core = f"hada_w{half}_a", f"hada_w{half}_b", f"hada_t{half}"
    if len(shapes[first]) != 2 or len(shapes[second]) != 2:
        return clash(shapes, first, second)
    tucker = core in shapes
    out, rank = shapes[first][::-1] if tucker else shapes[first]
    if out != weight[0]:
        return misplaced(shapes, [first], weight, base)
    if shapes[second][1] != (weight[1] if tucker else flat(weight)[1]):
        return misplaced(shapes, [second], weight, base)
    if shapes[second][0] != rank:
        return clash(shapes, first, second)
    if tucker and shapes[core] != (rank, rank, *weight[2:]):
        return clash(shapes, core, first)
    return None


def rank(shapes: Shapes, weight: Shape) -> int:
    """What alpha is divided by."""
    return shapes["hada_w1_b"][0]


def change(part: Part) -> LoraLayer:
    """The exact product of the two halves, in as few factors as it needs."""
    import torch

    values = part.tensors
    r = values["hada_w1_b"].shape[0]
    scale = over(part.alpha, r) / r
    if "hada_t1" in values:
        one, two = (
            _tucker(values[f"hada_t{n}"], values[f"hada_w{n}_a"], values[f"hada_w{n}_b"])
            for n in "12"
        )
        return of_matrix(scale * one * two)
    a1, b1, a2, b2 = (values[role] for role in MARKS[:4])
    if r * r >= min(flat(part.shape)):
        return of_matrix(scale * (a1 @ b1) * (a2 @ b2))
    # a product of products is one of r² terms: factors multiplied pair by pair
    up = torch.einsum("op,oq->opq", a1, a2).flatten(1)
    down = torch.einsum("pi,qi->pqi", b1, b2).flatten(0, 1)
    return of_product(scale * up, down)


def _tucker(core: Tensor, outer: Tensor, inner: Tensor) -> Tensor:
    """(out, in · height · width) of a core with its two sides."""
    import torch

    return torch.einsum("pqhw,po,qi->oihw", core, outer, inner).flatten(1)

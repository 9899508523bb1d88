"""LoKr (LyCORIS): Δ = scale · w1 ⊗ w2, where either may be given as a product of two.

w2 may be a kernel, or Tucker-decomposed: t2 (r, r, height, width), w2_a (r, out), w2_b (r, in).
scale is alpha / r of a factorised half; where both are whole it is 1, whatever alpha says.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from merging.adapter import LoraLayer
from merging.formats.families.exact_factors import of_matrix
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

TITLE = "LoKr"
MARKS = (
    *("lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_t1"),
    *("lokr_w2", "lokr_w2_a", "lokr_w2_b", "lokr_t2"),
)
NEEDS_BASE = False


def misfit(shapes: Shapes, weight: Shape, base: str) -> Misfit | None:
    """What is wrong with the shapes of one layer, if anything is."""
    if "lokr_t1" in shapes:
        return Misfit("has lokr_t1, which no known trainer writes; save it again with LyCORIS")
    for half in ("lokr_w1", "lokr_w2"):
        if wrong := _half(shapes, half):
            return wrong
    if _size(shapes) != flat(weight):
        return misplaced(shapes, [role for role in MARKS if role in shapes], weight, base)
    return None


def _half(shapes: Shapes, half: str) -> Misfit | None:
    """What is wrong with w1 or w2 by itself."""
    if half in shapes:
        return None if len(shapes[half]) in (2, 4) else clash(shapes, half)
    first, second, core = f"{half}_a", f"{half}_b", half.replace("w", "t")
    if missing := lacks(shapes, *((first, second) if first in shapes else (half,))):
        return missing
    ranks = (shapes[first][0 if core in shapes else -1], shapes[second][0])
    if {len(shapes[first]), len(shapes[second])} != {2} or ranks[0] != ranks[1]:
        return clash(shapes, first, second)
    if core in shapes and (len(shapes[core]) != 4 or shapes[core][:2] != ranks):
        return clash(shapes, core, first)
    return None


def _size(shapes: Shapes) -> tuple[int, int]:
    """(out, in · height · width) of the Kronecker product, from the shapes alone."""
    if "lokr_w2" in shapes:
        small = flat(shapes["lokr_w2"])
    elif "lokr_t2" in shapes:
        kernel = flat((1, *shapes["lokr_t2"][2:]))[1]
        small = (shapes["lokr_w2_a"][1], shapes["lokr_w2_b"][1] * kernel)
    else:
        small = (shapes["lokr_w2_a"][0], shapes["lokr_w2_b"][1])
    large = shapes.get("lokr_w1") or (shapes["lokr_w1_a"][0], shapes["lokr_w1_b"][1])
    return large[0] * small[0], flat(large)[1] * small[1]


def rank(shapes: Shapes, weight: Shape) -> int:
    """What alpha is divided by: the inner size of a factorised half, 0 where both are whole."""
    for half in ("lokr_w1_b", "lokr_w2_b"):
        if half in shapes:
            return shapes[half][0]
    return 0


def change(part: Part) -> LoraLayer:
    """The exact Kronecker product, from the factors of its halves."""
    import torch

    values = part.tensors
    one = _value(values.get("lokr_w1"), values.get("lokr_w1_a"), values.get("lokr_w1_b"))
    core = values.get("lokr_t2")
    if core is not None:
        two = torch.einsum("pqhw,po,qi->oihw", core, values["lokr_w2_a"], values["lokr_w2_b"])
    else:
        two = _value(values.get("lokr_w2"), values.get("lokr_w2_a"), values.get("lokr_w2_b"))
    r = rank({role: tuple(value.shape) for role, value in values.items()}, part.shape)
    scale = over(part.alpha, r) / r if r else 1.0
    # the factors of w1 ⊗ w2 are the Kronecker products of the factors of both
    large, small = of_matrix(scale * one.flatten(1)), of_matrix(two.flatten(1))
    up, down = _kron(large.up, small.up), _kron(large.down, small.down)
    return LoraLayer(up, down, alpha=float(down.shape[0]))


def _kron(one: Tensor, two: Tensor) -> Tensor:
    """The Kronecker product; torch's own fails on some slices of one column."""
    import torch

    rows, columns = one.shape[0] * two.shape[0], one.shape[1] * two.shape[1]
    return torch.einsum("ij,kl->ikjl", one, two).reshape(rows, columns)


def _value(whole: Tensor | None, first: Tensor | None, second: Tensor | None) -> Tensor:
    """One half, whole or multiplied out."""
    if whole is not None:
        return whole
    assert first is not None and second is not None  # misfit has looked
    return first @ second

"""LoKr (LyCORIS): Δ = scale · w1 ⊗ w2, where w1 and w2 may be products of two factors.

w2 may be a kernel, or Tucker-decomposed: t2 (r, r, height, width), w2_a (r, out), w2_b (r, in).
scale is alpha / r of a factorised half; if neither is factorised it is 1, whatever alpha is. PEFT
divides by the rank in its settings in any case.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from merging.adapter import LoraLayer
from merging.formats.families.exact_factors import factorise_matrix
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

TITLE = "LoKr"
MARKS = (
    *("lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_t1"),
    *("lokr_w2", "lokr_w2_a", "lokr_w2_b", "lokr_t2"),
)
NEEDS_BASE = False


def misfit(shapes: Shapes, weight: Shape, base: str) -> Misfit | None:
    """The misfit of a layer's shapes, None if they fit."""
    if "lokr_t1" in shapes:
        return Misfit("has lokr_t1, which no known trainer writes; save it again with LyCORIS")
    for half in ("lokr_w1", "lokr_w2"):
        if problem := _half_misfit(shapes, half):
            return problem
    if _product_size(shapes) != flat(weight):
        return wrong_shape(shapes, [role for role in MARKS if role in shapes], weight, base)
    return None


def _half_misfit(shapes: Shapes, half: str) -> Misfit | None:
    """The misfit of w1 or w2 alone."""
    if half in shapes:
        return None if len(shapes[half]) in (2, 4) else shapes_clash(shapes, half)
    first, second, core = f"{half}_a", f"{half}_b", half.replace("w", "t")
    if missing := missing_tensor(shapes, *((first, second) if first in shapes else (half,))):
        return missing
    ranks = (shapes[first][0 if core in shapes else -1], shapes[second][0])
    if {len(shapes[first]), len(shapes[second])} != {2} or ranks[0] != ranks[1]:
        return shapes_clash(shapes, first, second)
    if core in shapes and (len(shapes[core]) != 4 or shapes[core][:2] != ranks):
        return shapes_clash(shapes, core, first)
    return None


def _product_size(shapes: Shapes) -> tuple[int, int]:
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
    """The inner size of a factorised half, by which alpha is divided; 0 if none is factorised."""
    for half in ("lokr_w1_b", "lokr_w2_b"):
        if half in shapes:
            return shapes[half][0]
    return 0


def change(layer: LayerTensors) -> LoraLayer:
    """The exact Kronecker product, from the factors of its halves."""
    import torch

    values = layer.tensors
    one = _multiply_out(values.get("lokr_w1"), values.get("lokr_w1_a"), values.get("lokr_w1_b"))
    core = values.get("lokr_t2")
    if core is not None:
        two = torch.einsum("pqhw,po,qi->oihw", core, values["lokr_w2_a"], values["lokr_w2_b"])
    else:
        two = _multiply_out(values.get("lokr_w2"), values.get("lokr_w2_a"), values.get("lokr_w2_b"))
    r = layer.rank or rank({role: tuple(v.shape) for role, v in values.items()}, layer.shape)
    scale = alpha_or_rank(layer.alpha, r) / r if r else 1.0
    # the factors of w1 ⊗ w2 are the Kronecker products of the factors of both
    large, small = factorise_matrix(scale * one.flatten(1)), factorise_matrix(two.flatten(1))
    up, down = _kron(large.up, small.up), _kron(large.down, small.down)
    return LoraLayer(up, down, alpha=float(down.shape[0]))


def _kron(one: Tensor, two: Tensor) -> Tensor:
    """The Kronecker product; torch's own fails on some slices of one column."""
    import torch

    rows, columns = one.shape[0] * two.shape[0], one.shape[1] * two.shape[1]
    return torch.einsum("ij,kl->ikjl", one, two).reshape(rows, columns)


def _multiply_out(whole: Tensor | None, first: Tensor | None, second: Tensor | None) -> Tensor:
    """One half as a matrix or kernel, from its factors if it is factorised."""
    if whole is not None:
        return whole
    assert first is not None and second is not None  # checked by misfit
    return first @ second

"""BOFT of peft: the inputs of W0 are rotated by blocks, in stages, and its outputs are scaled.

``boft_R`` has the blocks (stages, count, size, size). A block's rotation is (I − Q)(I + Q)⁻¹ of the
skew Q = (block − blockᵀ) / 2. Stage n rotates inputs together that lie 2ⁿ half blocks apart
(arXiv:2311.06243, section 4). Δ = diag(s) W0 R₁ᵀ R₂ᵀ … − W0.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

from merging.adapter import LoraLayer
from merging.formats.families.exact_factors import factorise_matrix
from merging.formats.families.layer_tensors import (
    LayerTensors,
    Misfit,
    Shapes,
    missing_tensor,
    wrong_shape,
)
from merging.formats.layer_tables import Shape, flat

if TYPE_CHECKING:
    from torch import Tensor

TITLE = "BOFT by inputs"
MARKS = ("boft_R", "boft_s")
NEEDS_BASE = True


def misfit(shapes: Shapes, weight: Shape, base: str) -> Misfit | None:
    """The misfit of a layer's shapes, None if they fit."""
    if missing := missing_tensor(shapes, *MARKS):
        return missing
    out, wide = flat(weight)
    scales = shapes["boft_s"]
    if _stages_fit(shapes["boft_R"], wide) and (prod(scales), max(scales)) == (out, out):
        return None
    return wrong_shape(shapes, MARKS, weight, base)


def _stages_fit(blocks: Shape, wide: int) -> bool:
    """Whether the blocks cover the inputs, and their halves can be paired in all stages."""
    if len(blocks) != 4 or blocks[2] != blocks[3] or blocks[1] * blocks[2] != wide:
        return False
    stages, count, size, _ = blocks
    return stages == 1 or (stages > 1 and size % 2 == 0 and count % 2 ** (stages - 1) == 0)


def rank(shapes: Shapes, weight: Shape) -> int:
    """0: BOFT has no rank."""
    return 0


def change(layer: LayerTensors) -> LoraLayer:
    """The base's weights by rotated inputs and scaled outputs, minus the base's weights."""
    rotated = layer.base
    for stage, blocks in enumerate(_rotations(layer.tensors["boft_R"])):
        order = _order(stage, rotated.shape[1], blocks.shape[-1])
        near = rotated[:, order].unflatten(1, (-1, blocks.shape[-1])).transpose(0, 1)
        turned = (near @ blocks.mT).transpose(0, 1).flatten(1)
        rotated = turned[:, order.argsort()]
    return factorise_matrix(layer.tensors["boft_s"].reshape(-1, 1) * rotated - layer.base)


def _rotations(blocks: Tensor) -> Tensor:
    """The rotations of all blocks (stages, count, size, size)."""
    import torch

    skew = (blocks - blocks.mT) / 2
    unit = torch.eye(blocks.shape[-1], dtype=blocks.dtype)
    return (unit - skew) @ torch.linalg.inv(unit + skew)


def _order(stage: int, wide: int, size: int) -> Tensor:
    """The inputs in an order in which those of one block are neighbours."""
    import torch

    inputs = torch.arange(wide)
    return inputs.view(-1, 2, 2**stage, size // 2).transpose(1, 2).flatten() if stage else inputs

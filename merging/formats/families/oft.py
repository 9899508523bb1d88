"""OFT (kohya, LyCORIS "diag-oft") and BOFT: the rows of W0 are rotated, block by block.

A rotation is R = (I + Q)(I − Q)⁻¹ of the skew Q = blocks − blocksᵀ, whose norm is limited to
alpha · out unless alpha is 0. OFT has one set of blocks (count, size, size) and applies Rᵀ; BOFT
has several (stages, count, size, size) and applies R, with growing distances between the rows.
``rescale`` then multiplies the rows. Δ is the result minus W0.
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
from merging.formats.layer_tables import Shape

if TYPE_CHECKING:
    from torch import Tensor

TITLE = "OFT"
MARKS = ("oft_blocks", "rescale")
NEEDS_BASE = True


def misfit(shapes: Shapes, weight: Shape, base: str) -> Misfit | None:
    """The misfit of a layer's shapes, None if they fit."""
    if missing := missing_tensor(shapes, "oft_blocks"):
        return missing
    blocks = shapes["oft_blocks"]
    square = len(blocks) in (3, 4) and blocks[-1] == blocks[-2]
    if not square or blocks[-3] * blocks[-1] != weight[0] or not _stages_fit(blocks):
        return wrong_shape(shapes, ["oft_blocks"], weight, base)
    if "rescale" in shapes and (prod(shapes["rescale"]), shapes["rescale"][0]) != (weight[0],) * 2:
        return wrong_shape(shapes, ["rescale"], weight, base)
    return None


def _stages_fit(blocks: Shape) -> bool:
    """Whether the rows can be paired in all stages of a BOFT; the last has the largest distance."""
    if len(blocks) == 3:
        return True
    stages, count, size, _ = blocks
    return size % 2 == 0 and (count * size) % (2**stages * (size // 2)) == 0


def rank(shapes: Shapes, weight: Shape) -> int:
    """0: OFT has no rank."""
    return 0


def change(layer: LayerTensors) -> LoraLayer:
    """The rotated base weights minus the base weights."""
    rotations = _rotations(layer.tensors["oft_blocks"], (layer.alpha or 0.0) * layer.shape[0])
    if rotations.ndim == 3:
        rotated = _rotate(rotations.mT, layer.base)
    else:
        rotated = layer.base
        for stage, blocks in enumerate(rotations):
            rotated = _butterfly_stage(blocks, rotated, distance=2**stage * (blocks.shape[-1] // 2))
    if "rescale" in layer.tensors:
        rotated = layer.tensors["rescale"].reshape(-1, 1) * rotated
    return factorise_matrix(rotated - layer.base)


def _rotations(blocks: Tensor, limit: float) -> Tensor:
    """Cayley transform of all blocks; ``limit`` is the maximum of their joint norm, 0 for none."""
    import torch

    skew = blocks - blocks.mT
    norm = skew.norm()
    if 0 < limit < norm:
        skew = skew * (limit / norm)
    unit = torch.eye(blocks.shape[-1], dtype=blocks.dtype)
    return (unit + skew) @ torch.linalg.inv(unit - skew)


def _rotate(blocks: Tensor, rows: Tensor) -> Tensor:
    """Every block applied to its rows."""
    return (blocks @ rows.unflatten(0, blocks.shape[:2])).flatten(0, 1)


def _butterfly_stage(blocks: Tensor, rows: Tensor, distance: int) -> Tensor:
    """One stage: rows ``distance`` apart are gathered, rotated, and put back."""
    near = rows.unflatten(0, (-1, 2, distance)).transpose(1, 2).flatten(0, 2)
    return _rotate(blocks, near).unflatten(0, (-1, distance, 2)).transpose(1, 2).flatten(0, 2)

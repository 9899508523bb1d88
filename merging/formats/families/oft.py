"""OFT (kohya, LyCORIS "diag-oft") and BOFT: the rows of W0 are rotated, block by block.

A rotation is R = (I + Q)(I − Q)⁻¹ of the skew Q = blocks − blocksᵀ, whose norm is held below
alpha · out where alpha is not 0. OFT has one set of blocks (count, size, size) and applies Rᵀ; BOFT
has several (stages, count, size, size) and applies R, each stage on rows that lie further apart.
``rescale`` then multiplies the rows. Δ is what has come of W0, less W0.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

from merging.adapter import LoraLayer
from merging.formats.families.exact_factors import of_matrix
from merging.formats.families.layer_tensors import Misfit, Part, Shapes, lacks, misplaced
from merging.formats.layer_tables import Shape

if TYPE_CHECKING:
    from torch import Tensor

TITLE = "OFT"
MARKS = ("oft_blocks", "rescale")
NEEDS_BASE = True


def misfit(shapes: Shapes, weight: Shape, base: str) -> Misfit | None:
    """What is wrong with the shapes of one layer, if anything is."""
    if missing := lacks(shapes, "oft_blocks"):
        return missing
    blocks = shapes["oft_blocks"]
    square = len(blocks) in (3, 4) and blocks[-1] == blocks[-2]
    if not square or blocks[-3] * blocks[-1] != weight[0] or not _stages_fit(blocks):
        return misplaced(shapes, ["oft_blocks"], weight, base)
    if "rescale" in shapes and (prod(shapes["rescale"]), shapes["rescale"][0]) != (weight[0],) * 2:
        return misplaced(shapes, ["rescale"], weight, base)
    return None


def _stages_fit(blocks: Shape) -> bool:
    """Whether the rows of every stage of a BOFT can be paired: the last reaches furthest."""
    if len(blocks) == 3:
        return True
    stages, count, size, _ = blocks
    return size % 2 == 0 and (count * size) % (2**stages * (size // 2)) == 0


def rank(shapes: Shapes, weight: Shape) -> int:
    """There is none."""
    return 0


def change(part: Part) -> LoraLayer:
    """What the rotation makes of the base's own weights, less these."""
    rotations = _rotations(part.tensors["oft_blocks"], (part.alpha or 0.0) * part.shape[0])
    if rotations.ndim == 3:
        rotated = _turned(rotations.mT, part.base)
    else:
        rotated = part.base
        for stage, blocks in enumerate(rotations):
            rotated = _butterfly(blocks, rotated, reach=2**stage * (blocks.shape[-1] // 2))
    if "rescale" in part.tensors:
        rotated = part.tensors["rescale"].reshape(-1, 1) * rotated
    return of_matrix(rotated - part.base)


def _rotations(blocks: Tensor, limit: float) -> Tensor:
    """Cayley's transform of every block; ``limit`` is the largest norm of them all, 0 for none."""
    import torch

    skew = blocks - blocks.mT
    norm = skew.norm()
    if 0 < limit < norm:
        skew = skew * (limit / norm)
    unit = torch.eye(blocks.shape[-1], dtype=blocks.dtype)
    return (unit + skew) @ torch.linalg.inv(unit - skew)


def _turned(blocks: Tensor, rows: Tensor) -> Tensor:
    """Every block applied to its own rows."""
    return (blocks @ rows.unflatten(0, blocks.shape[:2])).flatten(0, 1)


def _butterfly(blocks: Tensor, rows: Tensor, reach: int) -> Tensor:
    """One stage: rows ``reach`` apart are brought together, turned, and put back."""
    near = rows.unflatten(0, (-1, 2, reach)).transpose(1, 2).flatten(0, 2)
    return _turned(blocks, near).unflatten(0, (-1, reach, 2)).transpose(1, 2).flatten(0, 2)

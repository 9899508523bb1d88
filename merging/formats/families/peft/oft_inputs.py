"""OFT of peft and of OneTrainer ("OFT 2"): the inputs of W0 are rotated, block by block.

Each row of ``oft_R`` holds the upper triangle of a skew Q (size, size), one for every block of
inputs or one for all of them. The rotation is R = (I − Q)(I + Q)⁻¹ with the sign by which both
programs write it, or by default the first terms of (I + Q)(I − Q)⁻¹ = I + 2 (Q + Q² + Q³ + …), of
which the last term counts once. Δ = W0 Rᵀ − W0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from merging.adapter import LoraLayer
from merging.errors import MergeError
from merging.formats.families.exact_factors import factorise_matrix
from merging.formats.families.layer_tensors import (
    LayerTensors,
    Misfit,
    Shapes,
    is_pointwise,
    missing_tensor,
    wrong_shape,
)
from merging.formats.layer_tables import Shape

if TYPE_CHECKING:
    from torch import Tensor

TITLE = "OFT by inputs"
MARKS = ("oft_R", "scaled_oft")
NEEDS_BASE = True
TERMS = 5  # of the series, in both programs


def misfit(shapes: Shapes, weight: Shape, base: str) -> Misfit | None:
    """The misfit of a layer's shapes, None if they fit."""
    if missing := missing_tensor(shapes, "oft_R"):
        return missing
    if not is_pointwise(weight[2:]):
        return Misfit(
            "is written as OFT of a kernel by peft or OneTrainer, which cannot be read; merge it "
            "into a checkpoint with its own program, and extract a LoRA from that"
        )
    shape = shapes["oft_R"]
    size = _block_size(shape[1]) if len(shape) == 2 else 0
    if not size or weight[1] % size or shape[0] not in (1, weight[1] // size):
        return wrong_shape(shapes, ["oft_R"], weight, base)
    return None


def rank(shapes: Shapes, weight: Shape) -> int:
    """0: OFT has no rank."""
    return 0


def change(layer: LayerTensors) -> LoraLayer:
    """The base's weights by rotated inputs, minus the base's weights; MergeError for a limit."""
    if layer.settings.get("coft"):
        raise MergeError(
            f"{layer.file} is OFT with a limit (coft), which cannot be read; merge it into a "
            "checkpoint with peft, and extract a LoRA from that."
        )
    triangles = layer.tensors["oft_R"]
    if "scaled_oft" in layer.tensors:  # OneTrainer divides by the root of their length
        triangles = triangles / triangles.shape[1] ** 0.5
    size = _block_size(triangles.shape[1])
    rotations = _rotations(_skew(triangles, size), layer)
    inputs = layer.base.unflatten(1, (-1, size)).transpose(0, 1)  # (blocks, out, size)
    rotated = (inputs @ rotations.mT).transpose(0, 1).flatten(1)
    return factorise_matrix(rotated - layer.base)


def _block_size(length: int) -> int:
    """The size of a matrix whose upper triangle has so many numbers; 0 if there is none."""
    size = round((1 + (1 + 8 * length) ** 0.5) / 2)
    return size if size * (size - 1) // 2 == length and length else 0


def _skew(triangles: Tensor, size: int) -> Tensor:
    """Q (blocks, size, size) from the rows of its upper triangles."""
    import torch

    upper = triangles.new_zeros(len(triangles), size, size)
    rows, columns = torch.triu_indices(size, size, 1)
    upper[:, rows, columns] = triangles
    return upper - upper.mT


def _rotations(skew: Tensor, layer: LayerTensors) -> Tensor:
    """R of every block, exactly or by its series, as PEFT's settings say."""
    import torch

    unit = torch.eye(skew.shape[-1], dtype=skew.dtype)
    if layer.settings.get("use_cayley_neumann") is False:
        return (unit - skew) @ torch.linalg.inv(unit + skew)
    terms = int(layer.settings.get("num_cayley_neumann_terms") or TERMS)
    terms = 4 if terms == 3 else terms  # so both programs count
    power, rotation = unit, unit.expand_as(skew).clone()
    for number in range(1, terms):
        power = power @ skew
        rotation += power * (1 if number == terms - 1 > 1 else 2)
    return rotation

"""IA³ (LyCORIS): Δ = W0 with every output row, or every input channel, times its own number."""

from __future__ import annotations

from math import prod

from merging.adapter import LoraLayer
from merging.errors import MergeError
from merging.formats.families.exact_factors import of_matrix
from merging.formats.families.layer_tensors import Misfit, Part, Shapes, lacks, misplaced
from merging.formats.layer_tables import Shape, flat

TITLE = "IA³"
MARKS = ("weight", "on_input")
NEEDS_BASE = True


def misfit(shapes: Shapes, weight: Shape, base: str) -> Misfit | None:
    """What is wrong with the shapes of one layer, if anything is."""
    if missing := lacks(shapes, *MARKS):
        return missing
    # which of the two it is lies in the value of on_input
    if prod(shapes["weight"]) not in weight[:2] or max(shapes["weight"]) not in weight[:2]:
        return misplaced(shapes, ["weight"], weight, base)
    return None


def rank(shapes: Shapes, weight: Shape) -> int:
    """There is none."""
    return 0


def change(part: Part) -> LoraLayer:
    """The base's own weights, scaled row by row or channel by channel."""
    numbers = part.tensors["weight"].flatten()
    by_input = bool(part.tensors["on_input"].any())
    if len(numbers) != part.shape[by_input]:
        side = "inputs" if by_input else "outputs"
        raise MergeError(
            f"{part.file}: layer {part.layer} has {len(numbers)} numbers for its "
            f"{part.shape[by_input]} {side}; the file is damaged."
        )
    kernel = part.base.reshape(*part.shape[:2], -1)
    by = numbers[None, :, None] if by_input else numbers[:, None, None]
    return of_matrix((kernel * by).reshape(flat(part.shape)))

"""Full differences (LyCORIS "full", ComfyUI's extraction): ``diff`` is Δ itself, without alpha."""

from __future__ import annotations

from math import prod

from merging.adapter import LoraLayer
from merging.formats.families.exact_factors import of_matrix
from merging.formats.families.layer_tensors import Misfit, Part, Shapes, misplaced
from merging.formats.layer_tables import Shape

TITLE = "full difference"
MARKS = ("diff",)
NEEDS_BASE = False


def misfit(shapes: Shapes, weight: Shape, base: str) -> Misfit | None:
    """What is wrong with the shape, if anything is."""
    found = shapes["diff"]
    if found[0] == weight[0] and prod(found) == prod(weight):  # a kernel may lie flat
        return None
    return misplaced(shapes, ["diff"], weight, base)


def rank(shapes: Shapes, weight: Shape) -> int:
    """There is none until the values have been looked at."""
    return 0


def change(part: Part) -> LoraLayer:
    """The difference, in as few factors as it needs."""
    return of_matrix(part.tensors["diff"].flatten(1))

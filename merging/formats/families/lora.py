"""Plain LoRA and LoCon: Δ = (alpha / rank) · up @ down, with ``mid`` between them if Tucker.

The factors of such a file are kept as they are. A convolution's kernel lies in ``down``, or in
``mid`` (rank, rank, height, width), which is contracted into ``down``.
"""

from __future__ import annotations

from merging.adapter import LoraLayer
from merging.formats.families.layer_tensors import (
    Misfit,
    Part,
    Shapes,
    clash,
    is_pointwise,
    lacks,
    misplaced,
    over,
)
from merging.formats.layer_tables import Shape

TITLE = "LoRA"
MARKS = ("down", "up", "mid")
NEEDS_BASE = False
# The largest rank that a layer of SD 1.x can have, and more than eight merged LoRAs of rank 128.
MAX_RANK = 1280


def misfit(shapes: Shapes, weight: Shape, base: str) -> Misfit | None:
    """What is wrong with the shapes of one layer, if anything is."""
    halves = [role for role in ("down", "up") if role in shapes]
    if astray := [role for role in halves if not _has_place(shapes, role, weight)]:
        return misplaced(shapes, astray, weight, base)
    if missing := lacks(shapes, "up", "down"):
        return missing
    rank = shapes["down"][0]
    if shapes["up"][1] != rank or rank > MAX_RANK:
        both = f"both must have the same rank, at most {MAX_RANK}: the file is damaged"
        return clash(shapes, "up", "down", ends=f"{both} or not a LoRA")
    if "mid" in shapes and shapes["mid"] != (rank, rank, *weight[2:]):
        return clash(shapes, "mid", "down")
    return None


def _has_place(shapes: Shapes, role: str, weight: Shape) -> bool:
    """Whether a half fits; 1×1 convolutions and linear layers may be stored either way."""
    shape = shapes[role]
    if len(shape) < 2:
        return False
    if role == "up":
        return shape[0] == weight[0] and is_pointwise(shape[2:])
    pointwise = ((weight[1],), (weight[1], 1, 1))
    if "mid" in shapes:
        return len(weight) == 4 and shape[1:] in pointwise
    return shape[1:] == weight[1:] or (is_pointwise(weight[2:]) and shape[1:] in pointwise)


def rank(shapes: Shapes, weight: Shape) -> int:
    """What alpha is divided by."""
    return shapes["down"][0]


def change(part: Part) -> LoraLayer:
    """The file's own factors."""
    import torch

    up, down = part.tensors["up"].flatten(1), part.tensors["down"].flatten(1)
    if "mid" in part.tensors:
        down = torch.einsum("prhw,ri->pihw", part.tensors["mid"], down).flatten(1)
    return LoraLayer(up, down, over(part.alpha, down.shape[0]))

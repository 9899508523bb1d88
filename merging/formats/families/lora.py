"""Plain LoRA and LoCon: Δ = (alpha / rank) · up @ down, or with ``mid`` in between.

The factors are used as they are stored. A convolution's kernel is in ``down``, or (Tucker) in
``mid`` (rank, rank, height, width). A linear layer's ``mid`` (rank, rank) is that of LoRA-XS
(arXiv:2405.17604), LoRA-SB (arXiv:2411.19557) and Structured LoRA (arXiv:2502.14482). It is
multiplied into ``down``.
"""

from __future__ import annotations

from merging.adapter import LoraLayer
from merging.formats.families.layer_tensors import (
    LayerTensors,
    Misfit,
    Shapes,
    alpha_or_rank,
    is_pointwise,
    missing_tensor,
    shapes_clash,
    wrong_shape,
)
from merging.formats.layer_tables import Shape

TITLE = "LoRA"
MARKS = ("down", "up", "mid")
NEEDS_BASE = False
# The largest rank that a layer of SD 1.x can have, and more than eight merged LoRAs of rank 128.
MAX_RANK = 1280


def misfit(shapes: Shapes, weight: Shape, base: str) -> Misfit | None:
    """The misfit of a layer's shapes, None if they fit."""
    halves = [role for role in ("down", "up") if role in shapes]
    if wrong := [role for role in halves if not _fits(shapes, role, weight)]:
        return wrong_shape(shapes, wrong, weight, base)
    if missing := missing_tensor(shapes, "up", "down"):
        return missing
    rank = shapes["down"][0]
    if shapes["up"][1] != rank or rank > MAX_RANK:
        both = f"both must have the same rank, at most {MAX_RANK}: the file is damaged"
        return shapes_clash(shapes, "up", "down", ends=f"{both} or not a LoRA")
    kernel = weight[2:] if _is_tucker(shapes) else ()
    if "mid" in shapes and shapes["mid"] != (rank, rank, *kernel):
        return shapes_clash(shapes, "mid", "down")
    return None


def _fits(shapes: Shapes, role: str, weight: Shape) -> bool:
    """Whether a factor fits; 1×1 convolutions and linear layers may be stored as 2-D or 4-D."""
    shape = shapes[role]
    if len(shape) < 2:
        return False
    if role == "up":
        return shape[0] == weight[0] and is_pointwise(shape[2:])
    if "mid" in shapes and not (_is_tucker(shapes) or is_pointwise(weight[2:])):
        return False
    pointwise = ((weight[1],), (weight[1], 1, 1))
    if _is_tucker(shapes):
        return len(weight) == 4 and shape[1:] in pointwise
    return shape[1:] == weight[1:] or (is_pointwise(weight[2:]) and shape[1:] in pointwise)


def _is_tucker(shapes: Shapes) -> bool:
    """Whether there is a kernel between the factors, not a matrix."""
    return "mid" in shapes and len(shapes["mid"]) > 2


def rank(shapes: Shapes, weight: Shape) -> int:
    """The rank, by which alpha is divided."""
    return shapes["down"][0]


def change(layer: LayerTensors) -> LoraLayer:
    """The factors in the file, with ``mid`` multiplied into ``down``."""
    import torch

    up, down = layer.tensors["up"].flatten(1), layer.tensors["down"].flatten(1)
    if "mid" in layer.tensors:
        down = torch.einsum("pr...,ri->pi...", layer.tensors["mid"], down).flatten(1)
    return LoraLayer(up, down, alpha_or_rank(layer.alpha, down.shape[0]))

"""VB-LoRA of peft: both factors are made of pieces, mixed from one bank of vectors for all layers.

Each piece is the sum of k vectors of the bank, weighed by the softmax of the k largest logits
(arXiv:2405.15179, equations 3 to 5). The file has the logits (down: rank, pieces, vectors; up:
pieces, rank, vectors), or the k places with all weights but the last one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from merging.adapter import LoraLayer
from merging.errors import MergeError
from merging.formats.families.exact_factors import factorise_product
from merging.formats.families.layer_tensors import (
    LayerTensors,
    Misfit,
    Shapes,
    is_pointwise,
    missing_tensor,
    places,
    wrong_shape,
)
from merging.formats.layer_tables import Shape, flat

if TYPE_CHECKING:
    from torch import Tensor

TITLE = "VB-LoRA"
HALVES = ("vblora_logits_A", "vblora_logits_B")
PLACES, WEIGHTS = "_topk_indices", "_topk_weights"  # the ends of what stands in place of logits
MARKS = tuple(half + end for half in HALVES for end in ("", PLACES, WEIGHTS))
BANK = "vblora_vector_bank"
SHARED = (BANK,)
NEEDS_BASE = False


def misfit(shapes: Shapes, weight: Shape, base: str) -> Misfit | None:
    """The misfit of a layer's shapes, None if they fit."""
    short = any(half + PLACES in shapes for half in HALVES)
    ends = (PLACES, WEIGHTS) if short else ("",)
    roles = [half + end for half in HALVES for end in ends]
    if missing := missing_tensor(shapes, *roles, BANK):
        return missing
    if is_pointwise(weight[2:]) and all(len(shapes[role]) == 3 for role in roles):
        pieces = [shapes[half + ends[0]] for half in HALVES]
        if _fit(pieces, shapes[BANK], weight) and (not short or _belong_together(shapes)):
            return None
    return wrong_shape(shapes, [*roles, BANK], weight, base)


def _fit(pieces: list[Shape], bank: Shape, weight: Shape) -> bool:
    """Whether the pieces of both halves make factors of the layer's size and of one rank."""
    (rank, wide, _), (high, other, _) = pieces
    sizes = (high * bank[-1], wide * bank[-1])
    return len(bank) == 2 and rank == other and sizes == flat(weight)


def _belong_together(shapes: Shapes) -> bool:
    """Whether there is one weight less than places, for all pieces."""
    pairs = [(shapes[half + PLACES], shapes[half + WEIGHTS]) for half in HALVES]
    return all(where == (*some[:2], some[2] + 1) for where, some in pairs)


def rank(shapes: Shapes, weight: Shape) -> int:
    """0: VB-LoRA has no alpha that a rank could divide."""
    return 0


def change(layer: LayerTensors) -> LoraLayer:
    """The mixed pieces as factors of the smallest rank; MergeError for a place outside the bank."""
    down, up = (_mixed(layer, half) for half in HALVES)
    return factorise_product(up.transpose(1, 2).flatten(0, 1), down.flatten(1))


def _mixed(layer: LayerTensors, half: str) -> Tensor:
    """Every piece of a half: (rank, pieces, length) or (pieces, rank, length)."""
    import torch

    bank = layer.tensors[BANK]
    if half in layer.tensors:
        logits, where = layer.tensors[half].topk(_count(layer, half))
        weights = logits.softmax(-1)
    else:
        where = places(layer, layer.tensors[half + PLACES], len(bank))
        some = layer.tensors[half + WEIGHTS]
        weights = torch.cat([some, 1 - some.sum(-1, keepdim=True)], dim=-1)
    return (weights.unsqueeze(-1) * bank[places(layer, where, len(bank))]).sum(-2)


def _count(layer: LayerTensors, half: str) -> int:
    """How many vectors a piece is mixed from."""
    count: Any = layer.settings.get("topk")
    if type(count) is int and 0 < count <= layer.tensors[half].shape[-1]:
        return count
    raise MergeError(
        f"{layer.file} is VB-LoRA without a usable topk, which says how many vectors are mixed; "
        "put the adapter_config.json that peft saved with it into the same folder."
    )

"""DoRA, on top of any family: rows or input channels of W0 + Δ are rescaled to stored norms.

LyCORIS and OneTrainer call the norms ``dora_scale``, (out, 1, …) or, in older files, (1, in, …);
PEFT has ``lora_magnitude_vector``, one norm per row. The base model's weights are needed, and the
result is no longer of low rank.
"""

from __future__ import annotations

from math import prod

from merging.adapter import LoraLayer
from merging.formats.families.exact_factors import factorise_matrix
from merging.formats.families.layer_tensors import LayerTensors, Misfit, Shapes, wrong_shape
from merging.formats.layer_tables import Shape

TITLE = "DoRA"
MARKS = ("dora_scale", "magnitude")


def misfit(shapes: Shapes, weight: Shape, base: str) -> Misfit | None:
    """The misfit of the norms' shape, None if it fits."""
    for role in shapes.keys() & set(MARKS):
        sides = weight[:2] if role == "dora_scale" else weight[:1]
        if prod(shapes[role]) not in sides or max(shapes[role]) != prod(shapes[role]):
            return wrong_shape(shapes, [role], weight, base)
    return None


def apply_norms(layer: LayerTensors, change: LoraLayer) -> LoraLayer:
    """Δ after the rows or input channels of W0 + Δ are rescaled to the file's norms."""
    import torch

    role = next(role for role in MARKS if role in layer.tensors)
    stored = layer.tensors[role]
    merged = (layer.base + change.delta()).reshape(*layer.shape[:2], -1)  # (out, in, kernel)
    by_input = role == "dora_scale" and _by_input(tuple(stored.shape), layer.shape)
    dims = (0, 2) if by_input else (1, 2)
    norms = torch.linalg.vector_norm(merged, dim=dims, keepdim=True)
    target = stored.flatten()[None, :, None] if by_input else stored.flatten()[:, None, None]
    rescaled = merged * (target / norms.clamp_min(torch.finfo(norms.dtype).tiny))
    return factorise_matrix(rescaled.reshape(layer.base.shape) - layer.base)


def _by_input(norms: Shape, weight: Shape) -> bool:
    """Whether the norms are per input; if out = in, the position of the long dimension decides."""
    if len(norms) > 1 and weight[0] == weight[1]:
        return norms[0] == 1
    return prod(norms) != weight[0]

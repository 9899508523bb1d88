"""DoRA, over a change of any family: W0 + Δ with every row, or every input channel, at a set norm.

LyCORIS and OneTrainer call the norms ``dora_scale``, (out, 1, …) or, in older files, (1, in, …);
PEFT has ``lora_magnitude_vector``, one for each row. The base model's weights are needed, and what
comes out is no longer of low rank.
"""

from __future__ import annotations

from math import prod

from merging.adapter import LoraLayer
from merging.formats.families.exact_factors import of_matrix
from merging.formats.families.layer_tensors import Misfit, Part, Shapes, misplaced
from merging.formats.layer_tables import Shape

TITLE = "DoRA"
MARKS = ("dora_scale", "magnitude")


def misfit(shapes: Shapes, weight: Shape, base: str) -> Misfit | None:
    """What is wrong with the shape of the norms, if anything is."""
    for role in shapes.keys() & set(MARKS):
        sides = weight[:2] if role == "dora_scale" else weight[:1]
        if prod(shapes[role]) not in sides or max(shapes[role]) != prod(shapes[role]):
            return misplaced(shapes, [role], weight, base)
    return None


def baked(part: Part, layer: LoraLayer) -> LoraLayer:
    """The change that is left once W0 + Δ has been brought to the norms of the file."""
    import torch

    role = next(role for role in MARKS if role in part.tensors)
    norms = part.tensors[role]
    whole = (part.base + layer.delta()).reshape(*part.shape[:2], -1)  # (out, in, kernel)
    by_input = role == "dora_scale" and _by_input(tuple(norms.shape), part.shape)
    across = (0, 2) if by_input else (1, 2)
    found = torch.linalg.vector_norm(whole, dim=across, keepdim=True)
    wanted = norms.flatten()[None, :, None] if by_input else norms.flatten()[:, None, None]
    turned = whole * (wanted / found.clamp_min(torch.finfo(found.dtype).tiny))
    return of_matrix(turned.reshape(part.base.shape) - part.base)


def _by_input(norms: Shape, weight: Shape) -> bool:
    """Whether there is a norm for each input; out and in may be equal, so the place decides."""
    if len(norms) > 1 and weight[0] == weight[1]:
        return norms[0] == 1
    return prod(norms) != weight[0]

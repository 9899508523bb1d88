"""VeRA of peft: all layers share two random matrices, and each layer scales their rows.

Δ = diag(b) B diag(d) A, where A (rank, in) and B (out, rank) are the first columns of ``vera_A``
and the first rows of ``vera_B``, which fit the largest layer (arXiv:2310.11454, equation 2).
"""

from __future__ import annotations

from merging.adapter import LoraLayer
from merging.formats.families.exact_factors import factorise_product
from merging.formats.families.layer_tensors import (
    LayerTensors,
    Misfit,
    Shapes,
    is_pointwise,
    missing_tensor,
    wrong_shape,
)
from merging.formats.layer_tables import Shape, flat

TITLE = "VeRA"
MARKS = ("vera_lambda_b", "vera_lambda_d")
SHARED = ("vera_A", "vera_B")
NEEDS_BASE = False


def misfit(shapes: Shapes, weight: Shape, base: str) -> Misfit | None:
    """The misfit of a layer's shapes, None if they fit."""
    if missing := missing_tensor(shapes, *MARKS):
        return missing
    if missing_tensor(shapes, *SHARED):
        return Misfit(
            "is written as VeRA without the matrices that all layers share (save_projection is off)"
            "; merge it into a checkpoint with peft, and extract a LoRA from that"
        )
    if is_pointwise(weight[2:]) and _fit(shapes, flat(weight)):
        return None
    return wrong_shape(shapes, [*MARKS, *SHARED], weight, base)


def _fit(shapes: Shapes, weight: Shape) -> bool:
    """Whether the vectors have the layer's sizes, and the shared matrices at least these."""
    out, wide = weight
    count = shapes["vera_lambda_d"][0]
    down, up = shapes["vera_A"], shapes["vera_B"]
    return (
        (shapes["vera_lambda_b"], shapes["vera_lambda_d"]) == ((out,), (count,))
        and (len(down), len(up), down[0], up[-1]) == (2, 2, count, count)
        and (down[1] >= wide and up[0] >= out)
    )


def rank(shapes: Shapes, weight: Shape) -> int:
    """0: VeRA has no alpha that a rank could divide."""
    return 0


def change(layer: LayerTensors) -> LoraLayer:
    """The layer's part of the shared matrices, scaled, as factors of the smallest rank."""
    out, wide = flat(layer.shape)
    up = layer.tensors["vera_lambda_b"][:, None] * layer.tensors["vera_B"][:out]
    down = layer.tensors["vera_lambda_d"][:, None] * layer.tensors["vera_A"][:, :wide]
    return factorise_product(up, down)

"""SHiRA of peft: Δ is 0 but for a few entries, which the file has with their places.

(arXiv:2406.13175, section 3.) peft has as many as a LoRA of some rank has numbers. Entries at
random places have full rank: the factors are as large as the weight.
"""

from __future__ import annotations

from merging.adapter import LoraLayer
from merging.formats.families.exact_factors import factorise_matrix
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

TITLE = "SHiRA"
MARKS = ("shira_weight", "shira_indices")
NEEDS_BASE = False


def misfit(shapes: Shapes, weight: Shape, base: str) -> Misfit | None:
    """The misfit of a layer's shapes, None if they fit."""
    if missing := missing_tensor(shapes, *MARKS):
        return missing
    count = shapes["shira_weight"][0]
    fits = (shapes["shira_weight"], shapes["shira_indices"]) == ((count,), (2, count))
    if fits and is_pointwise(weight[2:]) and count % sum(flat(weight)) == 0:
        return None
    return wrong_shape(shapes, MARKS, weight, base)


def rank(shapes: Shapes, weight: Shape) -> int:
    """0: the rank depends on the places."""
    return 0


def change(layer: LayerTensors) -> LoraLayer:
    """The entries at their places, as factors; MergeError for a place outside the weight."""
    values, (out, wide) = layer.tensors["shira_weight"], flat(layer.shape)
    rows, columns = layer.tensors["shira_indices"]
    dense = values.new_zeros(out, wide)
    where = (places(layer, rows, out), places(layer, columns, wide))
    return factorise_matrix(dense.index_put(where, values, accumulate=True))

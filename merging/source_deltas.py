"""The changes of one LoRA at its strength, as input of every method."""

from __future__ import annotations

from math import isfinite

from torch import Tensor

from merging.errors import MergeError
from merging.linalg.delta import ScaledDeltas
from merging.request import Source


def source_deltas(source: Source, notes: list[str]) -> ScaledDeltas:
    """Layer → change, with all scales folded in. Layers of zeros are left out, which adds a note.

    MergeError for values that are not finite numbers, and for a LoRA of zeros alone.
    """
    layers, name = source.weighted_adapter.layers, source.adapter.name
    zeros = []
    for layer, factors in layers.items():
        sizes = factors.alpha, _max_abs(factors.up), _max_abs(factors.down)
        if not all(map(isfinite, sizes)):
            raise MergeError(
                f"{name}: layer {layer} has values that are not finite numbers; its training "
                "failed or the file is damaged, so use another version of it."
            )
        if not all(sizes):
            zeros.append(layer)
    if len(zeros) == len(layers):
        raise MergeError(f"{name} changes nothing: all of its layers are 0; use another file.")
    nonzero = {layer: factors for layer, factors in layers.items() if layer not in zeros}
    if zeros:
        notes.append(f"{name}: {len(zeros)} layers that are all 0 were left out, first {zeros[0]}.")
    return ScaledDeltas(nonzero, source.strength)


def _max_abs(factor: Tensor) -> float:
    """The largest absolute value; NaN if there is one."""
    low, high = factor.aminmax()
    return max(-low.item(), high.item())

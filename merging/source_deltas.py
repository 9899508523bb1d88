"""The changes of one LoRA at its strength, as every method takes them."""

from __future__ import annotations

from math import isfinite

from torch import Tensor

from merging.errors import MergeError
from merging.linalg.delta import Changes
from merging.request import Source


def source_deltas(source: Source, notes: list[str]) -> Changes:
    """Layer → change, every scale folded in. Layers that change nothing are left out.

    How many those are is added to ``notes``. MergeError for values that are not finite numbers, and
    for a LoRA that changes nothing at all.
    """
    layers, name = source.weighted.layers, source.adapter.name
    zero = []
    for layer, factors in layers.items():
        sizes = factors.alpha, _largest(factors.up), _largest(factors.down)
        if not all(map(isfinite, sizes)):
            raise MergeError(
                f"{name}: layer {layer} has values that are not finite numbers; its training "
                "failed or the file is damaged, so take another version of it."
            )
        if not all(sizes):
            zero.append(layer)
    if len(zero) == len(layers):
        raise MergeError(f"{name} changes nothing: all of its layers are 0; take another file.")
    kept = {layer: factors for layer, factors in layers.items() if layer not in zero}
    if zero:
        notes.append(f"{name}: {len(zero)} layers that are all 0 were left out, first {zero[0]}.")
    return Changes(kept, source.strength)


def _largest(factor: Tensor) -> float:
    """The largest absolute value, in one reading; NaN where there is one."""
    low, high = factor.aminmax()
    return max(-low.item(), high.item())

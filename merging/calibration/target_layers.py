"""Which layers are solved from activations, and whether their matrices can be held."""

from __future__ import annotations

from collections.abc import Sequence

from merging.calibration.plan import RowSet
from merging.linalg.closed_form import LayerProblem
from merging.methods import METHODS
from merging.options import Targets
from merging.request import MergeRequest

# What the (in, in) matrices of one layer may take, all row sets together; wider layers fall back.
GRAM_BYTES = 4 * 2**30
TEXT_READERS = (".attn2.to_k", ".attn2.to_v")


def target_layers(layers: list[str], targets: Targets) -> list[str]:
    """Those of ``layers`` that are solved from activations; the text encoder always is."""
    wanted = {"cross-attention": (".attn2.",), "attention": (".attn1.", ".attn2."), "all": ("",)}
    return [
        layer
        for layer in layers
        if layer.startswith("text_encoder.") or any(mark in layer for mark in wanted[targets])
    ]


def wanted_layers(layers: list[str], request: MergeRequest) -> list[str]:
    """Those of ``layers`` that the request's method solves from activations."""
    found = target_layers(layers, request.targets)
    if METHODS[request.method].on_phrases:
        return [layer for layer in found if layer.endswith(TEXT_READERS)]
    return found


def gram_bytes(problem: LayerProblem, sets: Sequence[RowSet]) -> int:
    """Most memory that the layer's (in, in) matrices take: every set's, and the solver's own."""
    count, width = len(problem.deltas), problem.present[0].down.shape[1]
    gated = 2 + count + count * (count + 1) // 2  # products for each LoRA, and each pair of them
    matrices = sum(gated if each.gated else 3 for each in sets) + 3 * bool(sets)
    return 8 * width**2 * matrices

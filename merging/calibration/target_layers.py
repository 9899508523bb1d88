"""Which layers are solved from activations, and the memory that their matrices need."""

from __future__ import annotations

from collections.abc import Sequence

from merging.calibration.plan import RowSet
from merging.errors import MergeError
from merging.formats.layer_tables import TABLES, table
from merging.linalg.closed_form import LayerProblem
from merging.methods import METHODS
from merging.options import Targets
from merging.request import MergeRequest

# Limit for the (in, in) matrices of one layer, all row sets together; wider layers fall back.
GRAM_BYTES = 4 * 2**30
TEXT_LAYERS = (".attn2.to_k", ".attn2.to_v")


def target_layers(layers: list[str], targets: Targets) -> list[str]:
    """Those of ``layers`` that are solved from activations; the text encoder always is."""
    marks = {"cross-attention": (".attn2.",), "attention": (".attn1.", ".attn2."), "all": ("",)}
    return [
        layer
        for layer in layers
        if layer.startswith("text_encoder.") or any(mark in layer for mark in marks[targets])
    ]


def solved_layers(layers: list[str], request: MergeRequest) -> list[str]:
    """Those of ``layers`` that the request's method solves from activations.

    MergeError for a clip skip that the text encoder does not have.
    """
    skipped = skipped_layers(request)
    targets = [
        layer for layer in target_layers(layers, request.targets) if not layer.startswith(skipped)
    ]
    if METHODS[request.method].on_phrases:
        return [layer for layer in targets if layer.endswith(TEXT_LAYERS)]
    return targets


def skipped_layers(request: MergeRequest) -> tuple[str, ...]:
    """Beginnings of the names of the layers that the request's clip skip leaves out."""
    base = request.sources[0].adapter.base
    # other checkpoints of Stable Diffusion 1.x have the text encoder of sd15
    named = table(base if base in TABLES else TABLES[0]).shapes
    encoder = "text_encoder.text_model.encoder.layers."
    numbers = {int(name.split(".")[4]) for name in named if name.startswith(encoder)}
    if request.clip_skip > len(numbers):
        raise MergeError(
            f"Clip skip must be 1 to {len(numbers)} for the base {base}, not {request.clip_skip}."
        )
    kept = len(numbers) - request.clip_skip + 1
    return tuple(f"{encoder}{number}." for number in range(kept, len(numbers)))


def clip_skip_notes(request: MergeRequest) -> list[str]:
    """A sentence on every LoRA that was trained with another clip skip than the request's."""
    return [
        f"{source.adapter.name} was trained with clip skip {source.clip_skip}, and learned from "
        f"with {request.clip_skip}: the option clip_skip sets it."
        for source in request.sources
        if source.clip_skip != request.clip_skip
    ]


def gram_bytes(problem: LayerProblem, sets: Sequence[RowSet]) -> int:
    """At most so much memory for the layer's (in, in) matrices: of every set, and the solver's."""
    count, width = len(problem.deltas), problem.present[0].down.shape[1]
    gated = 2 + count + count * (count + 1) // 2  # products per LoRA, and per pair of LoRAs
    matrices = sum(gated if row_set.gated else 3 for row_set in sets) + 3 * bool(sets)
    return 8 * width**2 * matrices

"""The paper's objective of a merged adapter, layer by layer, for merges by any method."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from merging.adapter import Adapter
from merging.calibration.plan import Sweep
from merging.calibration.row_sets import row_sets
from merging.calibration.target_layers import GRAM_BYTES, gram_bytes
from merging.diffusion.base import Base
from merging.diffusion.calibrate import activations
from merging.linalg.closed_form import LayerProblem, objective, zero_delta
from merging.linalg.delta import Delta, ScaledDeltas
from merging.linalg.row_statistics import RowStatistics
from merging.request import MergeRequest, Source
from merging.runtime.progress import Progress, never

SAMPLES = 16  # prompts per concept


def layer_objective(
    base: Base, adapters: Sequence[Adapter], merged: Adapter, progress: Progress
) -> float:
    """The paper's objective for ``merged``, relative to an unchanged base; mean over the layers.

    0: every layer gives the output of each LoRA on its prompts; 1: the base model's. X̃ comes from
    the merged model (merging/linalg/closed_form.py). Layers too wide for Gram matrices are left
    out.
    """
    request = MergeRequest(
        tuple(map(Source, adapters)), samples=SAMPLES, targets="all", teacher="single"
    )
    deltas = tuple(dict(ScaledDeltas(adapter.layers, 1.0)) for adapter in adapters)
    sets, merged_changes = row_sets(request), ScaledDeltas(merged.layers, 1.0)
    errors: list[float] = []

    def problem(layer: str) -> LayerProblem:
        layer_deltas = tuple(changes.get(layer) for changes in deltas)
        return LayerProblem(layer, layer_deltas, (1.0,) * len(adapters))

    def measure(layer: str, weight: Tensor, rows: tuple[RowStatistics, ...]) -> Delta:
        with_rows = replace(problem(layer), weight=weight, rows=rows)
        change = merged_changes[layer] if layer in merged.layers else zero_delta(with_rows)
        if with_rows.target_energy > 0:
            errors.append(objective(with_rows, change) / with_rows.target_energy)
        return change

    layers = dict.fromkeys(layer for changes in deltas for layer in changes)
    targets = tuple(name for name in layers if gram_bytes(problem(name), sets) <= GRAM_BYTES)
    fixed = {name: merged_changes[name] for name in merged.layers if name not in set(targets)}
    sweep = Sweep(deltas, targets, fixed, sets, merged_inputs=True, rows=request.rows)
    activations(base)(sweep, measure, progress, never)
    return sum(errors) / len(errors)

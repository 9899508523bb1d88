"""What a merged adapter misses layer by layer, whatever method made it."""

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
    """The paper's objective under ``merged``, relative to doing nothing; mean over the layers.

    0 is every concept's own output on its own prompts, 1 is the base model's; X̃ comes from the
    merged model itself (merging/linalg/closed_form.py). Layers too wide for Gram matrices are left
    out.
    """
    request = MergeRequest(
        tuple(map(Source, adapters)), samples=SAMPLES, targets="all", teacher="single"
    )
    deltas = tuple(dict(ScaledDeltas(adapter.layers, 1.0)) for adapter in adapters)
    sets, answers = row_sets(request), ScaledDeltas(merged.layers, 1.0)
    missed: list[float] = []

    def problem(layer: str) -> LayerProblem:
        own = tuple(each.get(layer) for each in deltas)
        return LayerProblem(layer, own, (1.0,) * len(adapters))

    def judged(layer: str, weight: Tensor, rows: tuple[RowStatistics, ...]) -> Delta:
        problem_on_rows = replace(problem(layer), weight=weight, rows=rows)
        answer = answers[layer] if layer in merged.layers else zero_delta(problem_on_rows)
        if problem_on_rows.target_energy > 0:
            missed.append(objective(problem_on_rows, answer) / problem_on_rows.target_energy)
        return answer

    layers = dict.fromkeys(layer for own in deltas for layer in own)
    targets = tuple(each for each in layers if gram_bytes(problem(each), sets) <= GRAM_BYTES)
    fixed = {each: answers[each] for each in merged.layers if each not in set(targets)}
    sweep = Sweep(deltas, targets, fixed, sets, merged_inputs=True, rows=request.rows)
    activations(base)(sweep, judged, progress, never)
    return sum(missed) / len(missed)

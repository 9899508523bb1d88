"""The paper's iteration as its authors run it: store features, solve all layers, repeat.

Round 1 solves every layer on the teachers' inputs; every later round runs the merged model, stores
the new inputs of all layers, and solves them again (arXiv:2411.15231, algorithm 1). It shares the
solver with the single pass but not the code that records inputs, so tests compare the two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor

from merging.calibration.plan import SolveLayer, Sweep
from merging.diffusion.base import Base
from merging.diffusion.calibration_samples import Sample, batches
from merging.diffusion.layer_inputs import shared_input
from merging.diffusion.layer_ops import Layer, flat_weight, input_rows
from merging.diffusion.lockstep import counted_rows, run_model
from merging.linalg.delta import Delta
from merging.linalg.row_statistics import RowStatistics
from merging.runtime.progress import Progress, silent

Features = dict[str, Tensor]  # name of an input → its rows (samples, rows, in)


def paper_loop(
    base: Base,
    sweep: Sweep,
    samples: Sequence[Sample],
    solve: SolveLayer,
    rounds: int,
    progress: Progress = silent,
) -> dict[str, Delta]:
    """The change of every target after ``rounds`` rounds, on samples of single-concept sets.

    Layers outside the targets stay as ``sweep.fixed`` has them.
    """
    teacher: Features = {}
    for i, deltas in enumerate(sweep.deltas):
        samples_of_set = [sample for sample in samples if sample.row_set == i]
        _extend(teacher, _features(base, sweep, deltas, samples_of_set))
    merged, results = teacher, dict(sweep.fixed)
    for place in range(rounds):
        progress(place / rounds, f"round {place + 1} of {rounds}")
        if place:
            merged = _features(base, sweep, results, samples)
        for layer in sweep.targets:
            key = shared_input(layer)
            rows = _statistics(sweep, samples, teacher[key], merged[key])
            weight = flat_weight(base.layers[layer])
            results[layer] = solve(layer, weight, rows)
    return results


def _features(
    base: Base, sweep: Sweep, deltas: Mapping[str, Delta], samples: Sequence[Sample]
) -> Features:
    """The inputs of all targets while the model runs with these changes."""
    stored: Features = {}
    for batch in batches(base, samples, streams=1):
        recorded: Features = {}
        with torch.no_grad(), base.changed(deltas), _recording(base, sweep, batch, recorded):
            run_model(base, batch, 1, sweep.targets)
        _extend(stored, recorded)
    return stored


@contextmanager
def _recording(
    base: Base, sweep: Sweep, batch: Sequence[Sample], recorded: Features
) -> Iterator[None]:
    """Record the counted rows of the targets' inputs, once per input that several targets share."""

    def hook(key: str, name: str) -> Callable:
        def record(layer: Layer, inputs: tuple, _output: Tensor) -> None:
            rows = input_rows(layer, inputs[0]).cpu()
            counted = counted_rows(name, batch, rows.shape[1], sweep.rows)
            recorded[key] = rows[counted].unflatten(0, (len(batch), -1))

        return record

    keys = {shared_input(layer): layer for layer in reversed(sweep.targets)}
    with ExitStack() as undo:
        for key, layer in keys.items():
            undo.callback(base.layers[layer].register_forward_hook(hook(key, layer)).remove)
        yield


def _extend(stored: Features, recorded: Features) -> None:
    for key, rows in recorded.items():
        stored[key] = torch.cat([stored[key], rows]) if key in stored else rows


def _statistics(
    sweep: Sweep, samples: Sequence[Sample], teacher: Tensor, merged: Tensor
) -> tuple[RowStatistics, ...]:
    """The rows of every set: the teacher's and the merged model's."""
    sets = torch.tensor([sample.row_set for sample in samples])
    statistics = []
    for index, row_set in enumerate(sweep.row_sets):
        rows = RowStatistics(row_set.name, row_set.omega, constant=row_set.weights)
        in_set = sets == index
        rows.add(teacher[in_set].flatten(0, 1), merged[in_set].flatten(0, 1))
        statistics.append(rows)
    return tuple(statistics)

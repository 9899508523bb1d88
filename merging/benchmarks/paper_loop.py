"""The paper's iteration as its authors run it: features stored, all layers solved, run again.

Round 1 solves every layer on the teachers' inputs; each later round runs the merged model, stores
the new inputs of all layers, and solves them all again (arXiv:2411.15231, algorithm 1). It shares
the solver with our single pass and nothing of its capture, so it is its oracle and its peer.
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
    """Every target's change after so many rounds, on samples of single-concept sets.

    Layers outside the targets stay as ``sweep.fixed`` has them.
    """
    teacher: Features = {}
    for i, deltas in enumerate(sweep.deltas):
        own = [sample for sample in samples if sample.row_set == i]
        _extend(teacher, _features(base, sweep, deltas, own))
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
        found: Features = {}
        with torch.no_grad(), base.changed(deltas), _catching(base, sweep, batch, found):
            run_model(base, batch, 1, sweep.targets)
        _extend(stored, found)
    return stored


@contextmanager
def _catching(base: Base, sweep: Sweep, batch: Sequence[Sample], found: Features) -> Iterator[None]:
    """Keep the rows that count of each input that a target reads, once for all that share it."""

    def hook(key: str, name: str) -> Callable:
        def keep(layer: Layer, inputs: tuple, _output: Tensor) -> None:
            rows = input_rows(layer, inputs[0]).cpu()
            counted = counted_rows(name, batch, rows.shape[1], sweep.rows)
            found[key] = rows[counted].unflatten(0, (len(batch), -1))

        return keep

    keys = {shared_input(layer): layer for layer in reversed(sweep.targets)}
    with ExitStack() as undo:
        for key, layer in keys.items():
            undo.callback(base.layers[layer].register_forward_hook(hook(key, layer)).remove)
        yield


def _extend(stored: Features, found: Features) -> None:
    for key, rows in found.items():
        stored[key] = torch.cat([stored[key], rows]) if key in stored else rows


def _statistics(
    sweep: Sweep, samples: Sequence[Sample], teacher: Tensor, merged: Tensor
) -> tuple[RowStatistics, ...]:
    """The rows of every set, the teacher's beside the merged model's."""
    sets = torch.tensor([sample.row_set for sample in samples])
    answer = []
    for index, row_set in enumerate(sweep.row_sets):
        rows = RowStatistics(row_set.name, row_set.omega, constant=row_set.weights)
        own = (each[sets == index].flatten(0, 1) for each in (teacher, merged))
        rows.add(*own)
        answer.append(rows)
    return tuple(answer)

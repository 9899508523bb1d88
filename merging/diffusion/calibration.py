"""What a merge asks of the model: samples drawn once, then one lockstep pass, or k rounds."""

from __future__ import annotations

from merging.deltas import Delta
from merging.diffusion.base import Base
from merging.diffusion.lockstep import Lockstep, needs_latents
from merging.diffusion.sampling import batches, draw_samples
from merging.errors import MergeError
from merging.progress import Progress, Stop, part
from merging.sweep import Activations, SolveLayer, Sweep

SAMPLING_SHARE = 0.6  # of the time goes into the trajectories; only the progress bar cares


def activations(base: Base) -> Activations:
    """The callable that ``merging.merge.merge`` runs its solver through."""

    def run(sweep: Sweep, solve: SolveLayer, progress: Progress, stop: Stop) -> None:
        _check_layers(base, sweep)
        sampling = part(progress, 0.0, SAMPLING_SHARE)
        samples = draw_samples(base, sweep, needs_latents(sweep.targets), sampling, stop)
        rounds = sweep.rounds or 1
        merged: dict[str, Delta] | None = None
        for k in range(rounds):
            results = dict(sweep.fixed)
            if sweep.rounds is None and sweep.merged_inputs:
                merged = results
            share = (1 - SAMPLING_SHARE) / rounds
            solving = part(progress, SAMPLING_SHARE + k * share, SAMPLING_SHARE + (k + 1) * share)
            cut = batches(base, samples, streams=1 if merged is None else 2)
            Lockstep(base, sweep, solve, merged, results, solving, stop).run(cut)
            merged = results if sweep.merged_inputs else None

    return run


def _check_layers(base: Base, sweep: Sweep) -> None:
    """Every layer of every LoRA must exist in this base, in its size."""
    for deltas in sweep.deltas:
        for name, delta in deltas.items():
            shape = base.table.shapes.get(name)
            size = (delta.up.shape[0], delta.down.shape[1])
            if shape is None or (shape[0], _inputs(shape)) != size:
                raise MergeError(
                    f"Layer {name} ({size[0]}×{size[1]}) does not fit the base {base.name}: "
                    f"{'no such layer' if shape is None else f'it has {shape} there'}. "
                    "Choose the base that the LoRAs were trained for."
                )


def _inputs(shape: tuple[int, ...]) -> int:
    """Width of a flattened row: channels × kernel height × kernel width."""
    size = 1
    for extent in shape[1:]:
        size *= extent
    return size

"""Calibration on the base model: draw samples, then solve in one lockstep pass or in k rounds."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from merging.calibration.plan import Activations, SolveLayer, Sweep
from merging.diffusion.base import Base, latent_side
from merging.diffusion.calibration_samples import Sample, batches, draw_samples
from merging.diffusion.layer_inputs import needs_latents
from merging.diffusion.layer_ops import flat_weight
from merging.diffusion.lockstep import Lockstep
from merging.diffusion.parking import Parking
from merging.diffusion.prompts.clip_skip import using_clip_skip
from merging.diffusion.textual_inversion import using_embeddings
from merging.errors import MergeError
from merging.formats.layer_tables import flat
from merging.linalg.delta import Delta
from merging.runtime.memory import explain_out_of_memory, free_bytes
from merging.runtime.progress import Progress, Stop, check, part, prefixed

REMEDY = (
    "take fewer samples, fewer target layers (cross-attention is the smallest choice) or another "
    "device"
)
# Activations of a paused pass, in maps of the first block's size: the skips and the current block.
MAPS_HELD = 12
SAMPLING_SHARE = 0.6  # of the progress bar, for drawing the samples


def activations(base: Base) -> Activations:
    """The callable that ``merging.engine.merge`` runs its solver through."""

    def run(sweep: Sweep, solve: SolveLayer, progress: Progress, stop: Stop) -> None:
        check_layers(base, sweep)
        memory = explain_out_of_memory(f"The merge on {base.device}", REMEDY)
        parked = base.parked("vae", "safety_checker")
        with (
            memory,
            parked,
            using_embeddings(base, sweep.embeddings),
            using_clip_skip(base, sweep.clip_skip),
            base.stopping_at_layers(stop),
        ):
            if sweep.row_sets:
                _calibrate(base, sweep, solve, progress, stop)
            else:
                _solve_on_weights(base, sweep, solve, progress, stop)

    return run


def _calibrate(base: Base, sweep: Sweep, solve: SolveLayer, progress: Progress, stop: Stop) -> None:
    """Draw the samples, and solve every target on them."""
    sampling = part(progress, 0.0, SAMPLING_SHARE)
    with sweep.phases("sampling"):
        samples = draw_samples(base, sweep, needs_latents(sweep.targets), sampling, stop)
    solving = prefixed(part(progress, SAMPLING_SHARE, 1.0), "merging")
    solve_on(base, sweep, samples, solve, solving, stop)


def solve_on(
    base: Base,
    sweep: Sweep,
    samples: Sequence[Sample],
    solve: SolveLayer,
    progress: Progress,
    stop: Stop,
) -> None:
    """Solve every target on these samples: in one pass, or in the paper's rounds."""
    rounds = sweep.rounds or 1
    merged: dict[str, Delta] | None = None
    for k in range(rounds):
        results = dict(sweep.fixed)
        if sweep.rounds is None and sweep.merged_inputs:
            merged = results
        sample_batches = batches(base, samples, streams=1 if merged is None else 2)
        share = part(progress, k / rounds, (k + 1) / rounds)
        with sweep.phases("forward passes"):
            parking = parking_of(base, sweep, len(samples))
            lockstep = Lockstep(base, sweep, solve, merged, results, share, stop, parking)
            lockstep.run(sample_batches)
        merged = results if sweep.merged_inputs else None


def parking_of(base: Base, sweep: Sweep, samples: int) -> Parking | None:
    """Where batches that wait are, if they do not all fit on the GPU; None if they do.

    MergeError if they do not fit into main memory either: Linux would grant it, and later kill the
    process.
    """
    if not needs_latents(sweep.targets):
        return None
    streams = 2 if sweep.merged_inputs else 1
    values = latent_side(base) ** 2 * base.pipeline.unet.config.block_out_channels[0] * MAPS_HELD
    needed = samples * streams * values * base.dtype.itemsize
    free = free_bytes(base.device)
    if free is None or needed <= free:
        return None
    main = free_bytes(torch.device("cpu")) if base.device.type == "cuda" else 0
    if main is None or needed <= main:
        return Parking(free // 2, _weights(base))  # the other half is for the batch at work
    where, most = (base.device, free) if main < free else ("the GPU and in main memory", main)
    raise MergeError(
        f"{samples} samples would hold {needed / 2**30:.1f} GiB on {where}, where "
        f"{most / 2**30:.1f} are free, enough for about {samples * most // needed}; {REMEDY}."
    )


def _weights(base: Base) -> list[torch.Tensor]:
    models = (base.pipeline.text_encoder, base.pipeline.unet)
    return [weight for model in models for weight in (*model.parameters(), *model.buffers())]


def _solve_on_weights(
    base: Base, sweep: Sweep, solve: SolveLayer, progress: Progress, stop: Stop
) -> None:
    """Solve every target from the base weights alone, without running the model."""
    total = len(sweep.targets)
    for done, layer in enumerate(sweep.targets):
        check(stop)
        progress(done / total, f"layer {done + 1} of {total}")
        solve(layer, flat_weight(base.layers[layer]), ())


def check_layers(base: Base, sweep: Sweep) -> None:
    """Every layer of every LoRA must exist in this base, in its size."""
    for deltas in sweep.deltas:
        for name, delta in deltas.items():
            shape = base.table.shapes.get(name)
            size = (delta.up.shape[0], delta.down.shape[1])
            if shape is None or flat(shape) != size:
                raise MergeError(
                    f"Layer {name} ({size[0]}×{size[1]}) does not fit the base {base.name}: "
                    f"{'no such layer' if shape is None else f'it has {shape} there'}. "
                    "Choose the base that the LoRAs were trained for."
                )
    for shifts in sweep.shifts:
        base.check_shifts(shifts)

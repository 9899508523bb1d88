"""Speed of a merge compared with its limit: the bare doubled forward pass over the same samples.

The ratios are of one run; seconds alone depend more on the machine than on the code.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

import torch

from merging.benchmarks.paper_loop import paper_loop
from merging.calibration.plan import SolveLayer, Sweep
from merging.diffusion.base import Base, latent_side
from merging.diffusion.calibrate import solve_on
from merging.diffusion.calibration_samples import Sample, batches, draw_samples
from merging.diffusion.layer_inputs import needs_latents
from merging.diffusion.lockstep import run_model
from merging.engine import merge
from merging.errors import MergeError
from merging.linalg.delta import Delta
from merging.request import MergeRequest
from merging.runtime.phases import Phases, mebibytes, peak_bytes, reset_peak
from merging.runtime.progress import Progress, Stop, part, prefixed, silent

LIMIT = "bare doubled forward pass"
ROUNDS = 20  # the paper's cap on its iteration (arXiv:2411.15231)


@dataclass(frozen=True)
class _Step:
    """One measured step; ``work`` reports its progress."""

    name: str
    work: Callable[[Progress], None]
    repeats: int = 1
    passes: int = 1  # about how many through the model, for the progress bar


def bench(
    base: Base,
    request: MergeRequest,
    repeats: int,
    rounds: int = ROUNDS,
    trajectories: bool = True,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Seconds and peak memory of the bare pass (the limit), a lockstep pass, and the paper's loop.

    Best of ``repeats``; all use the same samples, whose drawing is timed separately. Without
    ``trajectories`` the latents are plain noise, enough for a model of random weights. Raises
    MergeError if the paper's loop is to run with another teacher than the single one.
    """
    if rounds and request.teacher != "single":
        raise MergeError("The paper's loop works with the single teacher only; use --rounds 0.")
    result: dict[str, Any] = {}

    def measure_steps(sweep: Sweep, solve: SolveLayer, progress: Progress, stop: Stop) -> None:
        samples: list[Sample] = []
        our_deltas: dict[str, Delta] = {}
        loop_deltas: dict[str, Delta] = {}

        def draw_step(progress: Progress) -> None:
            draw = draw_samples if trajectories else _noise
            samples.extend(draw(base, sweep, needs_latents(sweep.targets), progress, stop))

        def solve_layer(layer: str, *rest: Any) -> Delta:
            our_deltas[layer] = solve(layer, *rest)
            return our_deltas[layer]

        def loop_step(progress: Progress) -> None:
            loop_deltas.update(paper_loop(base, sweep, samples, solve, rounds, progress))

        steps = [
            _Step("drawing the samples", draw_step),
            _Step(LIMIT, lambda progress: _bare_pass(base, sweep, samples, progress), repeats),
            _Step(
                "lockstep, one pass",
                lambda progress: solve_on(base, sweep, samples, solve_layer, progress, stop),
                repeats,
            ),
        ]
        if rounds:
            steps.append(_Step(f"the paper's loop, {rounds} rounds", loop_step, passes=rounds))
        result["rows"] = _run_steps(sweep.phases, steps, progress)
        result["apart"] = _largest_difference(our_deltas, loop_deltas) if rounds else None

    merge(request, measure_steps, progress)
    for row in result["rows"].values():
        row["ratio"] = row["seconds"] / result["rows"][LIMIT]["seconds"]
    return {**_description(base, request), **result}


def _description(base: Base, request: MergeRequest) -> dict[str, Any]:
    """The base, the device and the options of the measurement."""
    return {
        "base": base.name,
        "latents": latent_side(base),
        "device": str(base.device),
        "threads": torch.get_num_threads(),
        "loras": [source.adapter.name for source in request.sources],
        "samples": request.samples,
        "positions": request.rows,
        "targets": request.targets,
        "mode": request.mode,
        "teacher": request.teacher,
    }


def speed_table(result: dict[str, Any]) -> str:
    """The result in Markdown."""
    side = result["latents"]
    teacher = "" if result["teacher"] == "single" else f"{result['teacher']} teacher, "
    lines = [
        f"{' + '.join(result['loras'])} on {result['base']}, {side} × {side} latents, "
        f"{result['samples']} prompts each, {teacher}{result['targets']}, {result['mode']}, "
        f"{result['device']}",
        "",
        "| | seconds | against the limit | peak memory above the model |",
        "| --- | --- | --- | --- |",
    ]
    for name, row in result["rows"].items():
        cells = (f"{row['seconds']:.2f}", f"{row['ratio']:.2f}", mebibytes(row["bytes"]))
        lines.append(f"| {name} | {' | '.join(cells)} |")
    if result["apart"] is not None:
        lines.append(f"\nThe two answers are at most {result['apart']:.0e} apart.")
    return "\n".join(lines)


def _noise(base: Base, sweep: Sweep, latents: bool, progress: Progress, stop: Stop) -> list[Sample]:
    """The prompts of the row sets, at different noise levels with noise as latents."""
    blank = draw_samples(base, sweep, False, progress, stop)
    if not latents:
        return blank
    side, generator = latent_side(base), torch.Generator().manual_seed(sweep.seed)
    shape = (len(blank), base.pipeline.unet.config.in_channels, side, side)
    noise = torch.randn(shape, generator=generator).to(base.device, base.dtype)
    times = torch.linspace(1, 999, len(blank)).int().tolist()
    rows = zip(blank, noise, times, strict=True)
    return [replace(sample, latent=latent, timestep=time) for sample, latent, time in rows]


def _bare_pass(base: Base, sweep: Sweep, samples: Sequence[Sample], progress: Progress) -> None:
    parts = batches(base, samples, streams=2)
    with torch.no_grad():
        for index, batch in enumerate(parts):
            progress(index / len(parts), f"batch {index + 1} of {len(parts)}")
            run_model(base, batch, 2, sweep.targets)


def _largest_difference(deltas: Mapping[str, Delta], others: Mapping[str, Delta]) -> float:
    """Largest ‖Δ − Δ'‖ / ‖Δ‖ over the layers."""
    return max(
        ((delta.dense() - others[layer].dense()).norm() / delta.dense().norm()).item()
        for layer, delta in deltas.items()
    )


def _run_steps(phases: Phases, steps: Sequence[_Step], progress: Progress) -> dict[str, Any]:
    """Step → its seconds and memory."""
    ends = list(accumulate(step.repeats * step.passes for step in steps))
    rows = {}
    for step, start, end in zip(steps, [0, *ends], ends, strict=False):
        step_progress = part(progress, start / ends[-1], end / ends[-1])
        rows[step.name] = _measure(phases, step, prefixed(step_progress, step.name))
    return rows


def _measure(phases: Phases, step: _Step, progress: Progress) -> dict[str, Any]:
    """Seconds of the fastest run, and the peak memory of all runs above the start.

    The work may open phases, which reset the peak: the highest of all phases counts.
    """
    reset_peak()
    before, times = peak_bytes(), []
    phases.parts.clear()
    for turn in range(step.repeats):
        turn_progress = part(progress, turn / step.repeats, (turn + 1) / step.repeats)
        started = time.perf_counter()
        with phases("measured"):
            step.work(turn_progress)
        times.append(time.perf_counter() - started)
    peaks = [phase.peak_bytes for phase in phases.parts.values() if phase.peak_bytes is not None]
    peak = None if before is None else max(*peaks, before) - before
    return {"seconds": min(times), "bytes": peak}

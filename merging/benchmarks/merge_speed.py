"""How fast a merge is beside its limit: the bare doubled forward pass over the same samples.

Ratios within one run; seconds alone say more of the machine than of the code.
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
from merging.runtime.progress import Progress, Stop, part, saying, silent

LIMIT = "bare doubled forward pass"
ROUNDS = 20  # the paper's cap on its iteration (arXiv:2411.15231)


@dataclass(frozen=True)
class _Step:
    """One thing to measure, which tells its own progress."""

    name: str
    work: Callable[[Progress], None]
    repeats: int = 1
    passes: int = 1  # through the model, about; only the progress bar cares


def bench(
    base: Base,
    request: MergeRequest,
    repeats: int,
    rounds: int = ROUNDS,
    trajectories: bool = True,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Seconds and peak memory of the bare pass (the limit), of one lockstep pass, of the rounds.

    Best of ``repeats``; drawing the samples is the same for all three, and timed apart. Without
    ``trajectories`` the latents are plain noise, which a model of random weights tells no better.
    MergeError where the paper's loop, which knows single concepts only, is to have more.
    """
    if rounds and request.teacher != "single":
        raise MergeError("The paper's loop knows the single teacher only; take --rounds 0.")
    found: dict[str, Any] = {}

    def timed(sweep: Sweep, solve: SolveLayer, told: Progress, stop: Stop) -> None:
        drawn: list[Sample] = []
        ours: dict[str, Delta] = {}
        theirs: dict[str, Delta] = {}

        def drawing(told: Progress) -> None:
            draw = draw_samples if trajectories else _noise
            drawn.extend(draw(base, sweep, needs_latents(sweep.targets), told, stop))

        def solved(layer: str, *rest: Any) -> Delta:
            ours[layer] = solve(layer, *rest)
            return ours[layer]

        def iterated(told: Progress) -> None:
            theirs.update(paper_loop(base, sweep, drawn, solve, rounds, told))

        steps = [
            _Step("drawing the samples", drawing),
            _Step(LIMIT, lambda told: _bare(base, sweep, drawn, told), repeats),
            _Step(
                "lockstep, one pass",
                lambda told: solve_on(base, sweep, drawn, solved, told, stop),
                repeats,
            ),
        ]
        if rounds:
            steps.append(_Step(f"the paper's loop, {rounds} rounds", iterated, passes=rounds))
        found["rows"] = _in_order(sweep.phases, steps, told)
        found["apart"] = _apart(ours, theirs) if rounds else None

    merge(request, timed, progress)
    for row in found["rows"].values():
        row["ratio"] = row["seconds"] / found["rows"][LIMIT]["seconds"]
    return {**_measured_on(base, request), **found}


def _measured_on(base: Base, request: MergeRequest) -> dict[str, Any]:
    """What the figures are of."""
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
    """The prompts of the row sets, each at a noise level of its own with noise for a latent."""
    blank = draw_samples(base, sweep, False, progress, stop)
    if not latents:
        return blank
    side, generator = latent_side(base), torch.Generator().manual_seed(sweep.seed)
    shape = (len(blank), base.pipeline.unet.config.in_channels, side, side)
    noise = torch.randn(shape, generator=generator).to(base.device, base.dtype)
    times = torch.linspace(1, 999, len(blank)).int().tolist()
    rows = zip(blank, noise, times, strict=True)
    return [replace(sample, latent=latent, timestep=time) for sample, latent, time in rows]


def _bare(base: Base, sweep: Sweep, samples: Sequence[Sample], progress: Progress) -> None:
    cut = batches(base, samples, streams=2)
    with torch.no_grad():
        for place, batch in enumerate(cut):
            progress(place / len(cut), f"batch {place + 1} of {len(cut)}")
            run_model(base, batch, 2, sweep.targets)


def _apart(ours: Mapping[str, Delta], theirs: Mapping[str, Delta]) -> float:
    """Largest ‖Δ − Δ'‖ / ‖Δ‖ over the layers."""
    return max(
        ((delta.dense() - theirs[layer].dense()).norm() / delta.dense().norm()).item()
        for layer, delta in ours.items()
    )


def _in_order(phases: Phases, steps: Sequence[_Step], progress: Progress) -> dict[str, Any]:
    """Every step's name with its seconds and memory."""
    ends = list(accumulate(step.repeats * step.passes for step in steps))
    rows = {}
    for step, start, end in zip(steps, [0, *ends], ends, strict=False):
        own = part(progress, start / ends[-1], end / ends[-1])
        rows[step.name] = _measured(phases, step, saying(own, step.name))
    return rows


def _measured(phases: Phases, step: _Step, progress: Progress) -> dict[str, Any]:
    """Seconds of the fastest run, and the most memory that any held above the start.

    The work may open phases of its own, which count peaks anew: the highest is the peak.
    """
    reset_peak()
    before, times = peak_bytes(), []
    phases.parts.clear()
    for turn in range(step.repeats):
        own = part(progress, turn / step.repeats, (turn + 1) / step.repeats)
        started = time.perf_counter()
        with phases("measured"):
            step.work(own)
        times.append(time.perf_counter() - started)
    peaks = [each.peak_bytes for each in phases.parts.values() if each.peak_bytes is not None]
    held = None if before is None else max(*peaks, before) - before
    return {"seconds": min(times), "bytes": held}

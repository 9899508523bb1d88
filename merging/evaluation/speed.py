"""How fast a merge is beside its limit: the bare doubled forward pass over the same samples.

Ratios within one run; seconds alone say more of the machine than of the code.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from merging.adapter import Adapter
from merging.choices import Targets
from merging.deltas import Delta
from merging.diffusion.base import Base, latent_side
from merging.diffusion.calibration import solve_on
from merging.diffusion.lockstep import run_model
from merging.diffusion.names import needs_latents
from merging.diffusion.sampling import Sample, batches, draw_samples
from merging.evaluation.paper_loop import paper_loop
from merging.merge import merge
from merging.phases import Phases, mebibytes, peak_bytes, reset_peak
from merging.progress import Progress, Stop, silent
from merging.request import MergeRequest, Source
from merging.sweep import SolveLayer, Sweep

LIMIT = "bare doubled forward pass"
ROUNDS = 20  # the paper's cap on its iteration (arXiv:2411.15231)


def bench(
    base: Base,
    adapters: Sequence[Adapter],
    samples: int,
    repeats: int,
    targets: Targets = "attention",
    rounds: int = ROUNDS,
    trajectories: bool = True,
    rows: int | None = MergeRequest.rows,
) -> dict[str, Any]:
    """Seconds and peak memory of the bare pass (the limit), of one lockstep pass, of the rounds.

    Best of ``repeats``; drawing the samples is the same for all three, and timed apart. Without
    ``trajectories`` the latents are plain noise, which a model of random weights tells no better.
    """
    found: dict[str, Any] = {}

    def timed(sweep: Sweep, solve: SolveLayer, _progress: Progress, stop: Stop) -> None:
        drawn: list[Sample] = []
        draw = draw_samples if trajectories else _noise
        latents = needs_latents(sweep.targets)
        ours: dict[str, Delta] = {}
        theirs: dict[str, Delta] = {}

        def solved(layer: str, *rest: Any) -> Delta:
            ours[layer] = solve(layer, *rest)
            return ours[layer]

        def iterated() -> None:
            theirs.update(paper_loop(base, sweep, drawn, solve, rounds))

        measured = partial(_measured, sweep.phases)
        found["rows"] = {
            "drawing the samples": measured(
                1, lambda: drawn.extend(draw(base, sweep, latents, silent, stop))
            ),
            LIMIT: measured(repeats, lambda: _bare(base, sweep, drawn)),
            "lockstep, one pass": measured(
                repeats, lambda: solve_on(base, sweep, drawn, solved, silent, stop)
            ),
        }
        if rounds:
            found["rows"][f"the paper's loop, {rounds} rounds"] = measured(1, iterated)
        found["apart"] = _apart(ours, theirs) if rounds else None

    sources = tuple(map(Source, adapters))
    merge(MergeRequest(sources, samples=samples, rows=rows, targets=targets), timed)
    for row in found["rows"].values():
        row["ratio"] = row["seconds"] / found["rows"][LIMIT]["seconds"]
    return {
        "base": base.name,
        "latents": latent_side(base),
        "device": str(base.device),
        "threads": torch.get_num_threads(),
        "loras": [adapter.name for adapter in adapters],
        "samples": samples,
        "positions": rows,
        "targets": targets,
        **found,
    }


def speed_table(result: dict[str, Any]) -> str:
    """The result in Markdown."""
    side = result["latents"]
    lines = [
        f"{' + '.join(result['loras'])} on {result['base']}, {side} × {side} latents, "
        f"{result['samples']} prompts each, {result['targets']}, {result['device']}",
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


def _bare(base: Base, sweep: Sweep, samples: Sequence[Sample]) -> None:
    with torch.no_grad():
        for batch in batches(base, samples, streams=2):
            run_model(base, batch, 2, sweep.targets)


def _apart(ours: Mapping[str, Delta], theirs: Mapping[str, Delta]) -> float:
    """Largest ‖Δ − Δ'‖ / ‖Δ‖ over the layers."""
    return max(
        ((delta.dense() - theirs[layer].dense()).norm() / delta.dense().norm()).item()
        for layer, delta in ours.items()
    )


def _measured(phases: Phases, repeats: int, work: Callable[[], None]) -> dict[str, Any]:
    """Seconds of the fastest run, and the most memory that any held above the start.

    The work may open phases of its own, which count peaks anew: the highest is the peak.
    """
    reset_peak()
    before, times = peak_bytes(), []
    phases.parts.clear()
    for _ in range(repeats):
        started = time.perf_counter()
        with phases("measured"):
            work()
        times.append(time.perf_counter() - started)
    peaks = [part.peak_bytes for part in phases.parts.values() if part.peak_bytes is not None]
    held = None if before is None else max(*peaks, before) - before
    return {"seconds": min(times), "bytes": held}

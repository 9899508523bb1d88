"""How fast a merge is beside its limit: the bare doubled forward pass over the same samples.

Ratios within one run; seconds alone say more of the machine than of the code.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch

from merging.adapter import Adapter
from merging.diffusion.base import Base
from merging.diffusion.calibration import solve_on
from merging.diffusion.lockstep import run_model
from merging.diffusion.names import needs_latents
from merging.diffusion.sampling import batches, draw_samples
from merging.merge import merge
from merging.progress import Progress, Stop, silent
from merging.request import MergeRequest, Source
from merging.sweep import SolveLayer, Sweep

ROUNDS = 20  # the paper's cap on its iteration (arXiv:2411.15231)


def bench(base: Base, adapters: Sequence[Adapter], samples: int, repeats: int) -> dict[str, Any]:
    """Seconds of the bare pass (the limit), of one lockstep pass, and of the paper's rounds.

    Best of ``repeats``; drawing the samples is the same for all three, and timed apart.
    """
    seconds: dict[str, float] = {}

    def timed(sweep: Sweep, solve: SolveLayer, _progress: Progress, stop: Stop) -> None:
        drawn = []
        seconds["drawing the samples"] = _best(
            1, lambda: drawn.extend(draw_samples(base, sweep, _latents(sweep), silent, stop))
        )
        cut = batches(base, drawn, streams=2)

        def bare() -> None:
            with torch.no_grad():
                for batch in cut:
                    run_model(base, batch, 2, sweep.targets)

        def solved(rounds: int | None) -> Callable[[], None]:
            wanted = replace(sweep, rounds=rounds)
            return lambda: solve_on(base, wanted, drawn, solve, silent, stop)

        seconds["bare doubled forward pass"] = _best(repeats, bare)
        seconds[f"the paper's iteration, {ROUNDS} rounds"] = _best(1, solved(ROUNDS))
        seconds["lockstep, one pass"] = _best(repeats, solved(None))

    merge(MergeRequest(tuple(map(Source, adapters)), samples=samples), timed)
    limit = seconds["bare doubled forward pass"]
    return {
        "base": base.name,
        "device": str(base.device),
        "threads": torch.get_num_threads(),
        "loras": [adapter.name for adapter in adapters],
        "samples": samples,
        "rows": {
            name: {"seconds": value, "ratio": value / limit} for name, value in seconds.items()
        },
    }


def speed_table(result: dict[str, Any]) -> str:
    """The result in markdown."""
    lines = [f"{' + '.join(result['loras'])}, {result['samples']} prompts each, {result['device']}"]
    lines += ["", "| | seconds | against the limit |", "| --- | --- | --- |"]
    for name, row in result["rows"].items():
        lines.append(f"| {name} | {row['seconds']:.2f} | {row['ratio']:.2f} |")
    return "\n".join(lines)


def _latents(sweep: Sweep) -> bool:
    return needs_latents(sweep.targets)


def _best(repeats: int, work: Callable[[], None]) -> float:
    """Seconds of the fastest run."""
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return min(times)

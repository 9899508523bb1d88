"""Speed of a picture compared with the plain diffusers pipeline, measured alternately in one run.

The plain pipeline uses diffusers' ``__call__`` and diffusers' LoRA loader.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch

from merging import formats
from merging.adapter import Adapter
from merging.diffusion.base import Base
from merging.diffusion.render import render
from merging.engine import merge
from merging.request import MergeRequest, Source
from merging.runtime.progress import Progress, silent

PROMPT, SEED, GUIDANCE = "a photo of a cat and a pizza", 0, 5.0
LIMIT = "the plain pipeline"
# A context that is entered before, untimed, and the work that is timed.
Contender = tuple[Callable[[], AbstractContextManager[None]], Callable[[], object]]


def bench_pictures(
    base: Base,
    pair: Sequence[Adapter],
    repeats: int,
    steps: int = 25,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Seconds of a picture, the fastest of ``repeats``, of the base and of a merge, for JSON."""
    merged = merge(MergeRequest(tuple(map(Source, pair)), method="sum")).adapter
    contenders: dict[str, Contender] = {
        LIMIT: (nullcontext, lambda: _plain(base, steps)),
        "ours": (nullcontext, lambda: _ours(base, steps)),
        f"{LIMIT}, the merge loaded by diffusers": (
            lambda: _with_loaded(base, merged),
            lambda: _plain(base, steps),
        ),
        "ours, with the merge": (nullcontext, lambda: _ours(base, steps, merged)),
    }
    seconds = _time_in_turns(contenders, repeats, progress)
    return {
        "base": base.name,
        "steps": steps,
        "device": str(base.device),
        "threads": torch.get_num_threads(),
        "rows": {
            name: {"seconds": value, "ratio": value / seconds[LIMIT]}
            for name, value in seconds.items()
        },
    }


def pictures_table(result: dict[str, Any]) -> str:
    """The result in Markdown."""
    lines = [
        f"One picture of {result['steps']} steps on {result['base']}, {result['device']}",
        "",
        "| | seconds | against the plain pipeline |",
        "| --- | --- | --- |",
    ]
    for name, row in result["rows"].items():
        lines.append(f"| {name} | {row['seconds']:.3f} | {row['ratio']:.2f} |")
    return "\n".join(lines)


def _time_in_turns(
    contenders: dict[str, Contender], repeats: int, progress: Progress
) -> dict[str, float]:
    """The fastest time of all contenders, in turns, so that a slow moment affects all of them."""
    best = dict.fromkeys(contenders, float("inf"))
    for turn in range(repeats + 1):
        progress(turn / (repeats + 1), f"turn {turn + 1} of {repeats + 1}")
        for name, (context, work) in contenders.items():
            with context():
                started = time.perf_counter()
                work()
                seconds = time.perf_counter() - started
            if turn:  # the first turn warms up
                best[name] = min(best[name], seconds)
    return best


def _plain(base: Base, steps: int) -> object:
    return base.pipeline(
        PROMPT,
        num_inference_steps=steps,
        guidance_scale=GUIDANCE,
        generator=torch.Generator().manual_seed(SEED),
    ).images


def _ours(base: Base, steps: int, *adapters: Adapter) -> object:
    pairs = [(adapter, 1.0) for adapter in adapters]
    return render(base, [PROMPT], [SEED], adapters=pairs, steps=steps, guidance=GUIDANCE)


@contextmanager
def _with_loaded(base: Base, adapter: Adapter) -> Iterator[None]:
    """The pipeline with the adapter loaded by diffusers itself."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "merged.safetensors"
        formats.write_diffusers(adapter, file, torch.float32)
        base.pipeline.load_lora_weights(folder, weight_name=file.name)
    try:
        yield
    finally:
        base.pipeline.unload_lora_weights()

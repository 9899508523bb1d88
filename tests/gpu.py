"""What only a machine with a GPU can show: `python -m tests.gpu`, under eight minutes on one card.

Numbers against the CPU in every precision, memory within a budget of 8 GB, many prompts at SD 1.5's
size, and seconds. Prints Markdown tables with the card's name; the exit status is 1 if a bar is
missed. SD 1.5 here is its architecture with random weights.

`--device cpu --precisions fp32 --side 8 --samples 1 --many 2` runs the same code without a card.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from PIL import Image

from merging import formats
from merging.adapter import Adapter
from merging.benchmarks.machine import machine
from merging.diffusion.base import Base, load_base
from merging.diffusion.calibrate import activations
from merging.diffusion.random_sd15 import random_adapter, random_sd15
from merging.diffusion.render import render
from merging.engine import merge
from merging.errors import MergeError
from merging.options import Precision
from merging.request import MergeRequest, Source
from merging.runtime.phases import peak_bytes, reset_peak
from tests.conftest import SHELF, distance

GIB = 2**30
# Of the merge's relative distance from the CPU's.
BARS: dict[Precision, float] = {
    "fp32": 1e-3,
    "fp16": 0.05,
    "bf16": 0.3,
}
EXACTNESS = ("precision", "merge apart from the CPU's", "picture apart, of 255")
COSTS = ("work", "seconds", "peak GiB", "what went wrong")
PROMPT = "a photo of a sks cat and a vxz pizza"
MARKS = (".attn2.",)


@dataclass(frozen=True)
class Row:
    """One measurement; ``holds`` says whether its bar is met."""

    name: str
    cells: tuple[str, ...]
    holds: bool = True


def numbers(device: str, samples: int, precisions: Sequence[Precision]) -> Iterator[Row]:
    """Merge and picture on the embedded base in each precision, against the CPU in fp32."""
    files = [SHELF[trigger] for trigger in ("sks cat", "vxz pizza")]
    request = MergeRequest(tuple(Source(formats.read(file)) for file in files), samples=samples)
    exact, picture = _merge_and_draw(load_base("mini", "cpu"), request)
    for precision in precisions:
        adapter, other = _merge_and_draw(load_base("mini", device, precision), request)
        apart = distance(adapter, exact)
        levels = np.abs(np.asarray(other, float) - np.asarray(picture, float)).mean()
        cells = (f"{apart:.1e}", f"{levels:.2f}")
        yield Row(precision, cells, holds=apart <= BARS[precision])


def _merge_and_draw(base: Base, request: MergeRequest) -> tuple[Adapter, Image.Image]:
    adapter = merge(request, activations(base)).adapter
    return adapter, render(base, [PROMPT], [0], adapters=[(adapter, 1.0)], steps=10)[0]


def budget(device: str, gib: float) -> None:
    """Let torch have no more than this of the card's memory."""
    if torch.device(device).type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory
        torch.cuda.set_per_process_memory_fraction(min(gib * GIB / total, 1.0), device)


def measured(name: str, base: Base, work: Callable[[], object]) -> Row:
    """Seconds and highest memory of the work; out of memory is a bar that is missed."""
    reset_peak()
    began = time.perf_counter()
    try:
        work()
    except (MergeError, torch.OutOfMemoryError) as error:
        return Row(name, ("–", "–", str(error).splitlines()[0]), holds=False)
    if base.device.type == "cuda":
        torch.cuda.synchronize(base.device)
        peak = torch.cuda.max_memory_allocated(base.device)
    else:
        peak = peak_bytes() or 0
    return Row(name, (f"{time.perf_counter() - began:.1f}", f"{peak / GIB:.2f}", ""))


def sizes(device: str, side: int, samples: int, many: int) -> Iterator[Row]:
    """Merges, of few prompts and of many, and pictures of SD 1.5's architecture.

    What many prompts hold at SD 1.5's size is more than the budget: it waits in main memory.
    """
    base = random_sd15(side, device=device)
    loras = [random_adapter(base, MARKS, rank=16, seed=seed) for seed in (1, 2)]
    request, run = MergeRequest(tuple(map(Source, loras)), samples=samples), activations(base)
    draw = partial(render, base, [PROMPT], [0], steps=20)
    works: dict[str, Callable[[], object]] = {
        "merge by TSV": partial(merge, replace(request, method="tsv"), run),
        f"merge, {samples} prompts of each": partial(merge, request, run),
        f"merge, {many} prompts of each": partial(merge, replace(request, samples=many), run),
        "picture, 20 steps": draw,
        "picture with both": partial(draw, adapters=[(lora, 1.0) for lora in loras]),
    }
    yield from (measured(name, base, work) for name, work in works.items())


def show(titles: Sequence[str], rows: Iterable[Row]) -> bool:
    """Print each row of a table once it is measured; returns whether all bars are met."""
    print(f"| {' | '.join(titles)} |\n|{' --- |' * len(titles)}", flush=True)
    missed = False
    for row in rows:
        name = row.name if row.holds else f"**{row.name}: missed**"
        print(f"| {' | '.join((name, *row.cells))} |", flush=True)
        missed = missed or not row.holds
    return not missed


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--precisions", nargs="+", choices=BARS, default=list(BARS))
    parser.add_argument("--side", type=int, default=64, help="of SD 1.5's latents")
    parser.add_argument("--samples", type=int, default=8, help="prompts of each LoRA")
    parser.add_argument("--many", type=int, default=50, help="prompts of each LoRA, once more")
    parser.add_argument("--gib", type=float, default=8.0, help="memory that torch may have")
    given = parser.parse_args(arguments)
    if given.device.startswith("cuda") and not torch.cuda.is_available():
        print("No CUDA device is visible: nothing was measured.", file=sys.stderr)
        return 1
    print(f"{machine(given.device)}\n", flush=True)
    exact = show(EXACTNESS, numbers(given.device, given.samples, given.precisions))
    budget(given.device, given.gib)
    print(f"\nSD 1.5, {given.side} × {given.side} latents, within {given.gib:g} GiB:\n")
    fits = show(COSTS, sizes(given.device, given.side, given.samples, given.many))
    return 0 if exact and fits else 1


if __name__ == "__main__":
    sys.exit(main())

"""Time a merge and a picture on two bases, in turns: `python -m assets.build.base_times FOLDER`.

`git worktree add ../before db7721c` has the first base, of 64 pixels, in its `assets/mini-sd`. Both
merge the present base's cat and pizza LoRAs, since the layers of both have the same shapes.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import torch

from merging import formats
from merging.bundled import LORAS
from merging.diffusion.base import Base, load_base
from merging.diffusion.calibrate import activations
from merging.diffusion.render import render
from merging.engine import merge
from merging.io.assets import ASSETS
from merging.request import MergeRequest, Source

FILES = ("sks-cat.safetensors", "vxz-pizza.safetensors")
PROMPT, STEPS, TURNS = "a photo of a cat and a pizza", 25, 5


def main() -> None:
    """Print a row for the merge and one for the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("before", type=Path, help="folder of the base that is compared with")
    given = parser.parse_args()
    bases = [load_base(str(folder), "cpu") for folder in (given.before, ASSETS / "mini-sd")]
    request = MergeRequest(tuple(Source(formats.read(LORAS / name)) for name in FILES))
    work: dict[str, Callable[[Base], object]] = {
        "a merge, every option at its default": lambda base: merge(request, activations(base)),
        f"a picture, {STEPS} steps": lambda base: render(base, [PROMPT], [0], steps=STEPS),
    }
    print(f"| seconds, best of {TURNS} | before | now | ratio |\n| --- | --- | --- | --- |")
    for title, job in work.items():
        turns = [[seconds(job, base) for base in bases] for _ in range(TURNS)]
        before, now = map(min, zip(*turns, strict=True))
        print(f"| {title} | {before:.2f} | {now:.2f} | {now / before:.2f} |", flush=True)
    print(f"\n{torch.get_num_threads()} threads of the CPU.")


def seconds(job: Callable[[Base], object], base: Base) -> float:
    """Of one turn."""
    begun = time.perf_counter()
    job(base)
    return time.perf_counter() - begun


if __name__ == "__main__":
    main()

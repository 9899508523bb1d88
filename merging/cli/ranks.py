"""The command `ranks`: what an adapter loses at smaller ranks."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

from merging import formats
from merging.analysis.plots import curve_plot
from merging.analysis.rank_curve import rank_curve
from merging.io import hub
from merging.runtime.progress import Progress


def add_ranks(sub: argparse.ArgumentParser) -> None:
    """The command's options."""
    sub.add_argument("file", type=Path, metavar="FILE")
    sub.add_argument("--dtype", choices=formats.DTYPES, default="fp16", help="for the sizes")
    sub.add_argument("--plot", type=Path, metavar="PNG", help="draw the curve")
    sub.set_defaults(run=run_ranks)


def run_ranks(options: argparse.Namespace, _progress: Progress) -> tuple[dict[str, Any], str]:
    """What an adapter loses at smaller ranks, and the size of its file."""
    found = hub.found(options.file)
    adapter = formats.read(found.path, name=found.name)
    points = rank_curve(adapter, formats.DTYPES[options.dtype])
    if options.plot:
        curve_plot(points, adapter.name).save(options.plot)
    rows = [f"{p.rank:5d}  {p.energy:7.2%}  {p.megabytes:8.2f} MB" for p in points]
    answer = {"name": adapter.name, "points": [asdict(point) for point in points]}
    return answer, "\n".join([" rank   energy       size", *rows])

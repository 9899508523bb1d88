"""The command `ranks`: what an adapter loses at smaller ranks."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TypedDict

from merging import formats
from merging.analysis.plots import curve_plot
from merging.analysis.rank_curve import CurvePoint, rank_curve
from merging.cli.parser import CommandParser
from merging.io import hub
from merging.runtime.progress import Progress


def add_ranks(sub: CommandParser) -> None:
    """The command's options."""
    sub.describe("FILE [options]", "both.safetensors", "both.safetensors --plot curve.png")
    sub.essentials.add_argument("file", type=Path, metavar="FILE", help="a LoRA of any family")
    sub.files.add_argument(
        "--dtype", choices=formats.DTYPES, default="fp16", help="numbers of the file, for its size"
    )
    sub.files.add_argument(
        "--plot", type=Path, metavar="PNG", help="draw the curve (default: no picture)"
    )
    sub.set_defaults(run=run_ranks)


class RanksAnswer(TypedDict):
    """The adapter's name, and the energy it keeps at every rank."""

    name: str
    points: tuple[CurvePoint, ...]


def run_ranks(options: argparse.Namespace, _progress: Progress) -> tuple[RanksAnswer, str]:
    """Print the energy kept and the file's size at smaller ranks."""
    file = hub.resolve_file(options.file)
    adapter = formats.read(file.path, name=file.name)
    points = rank_curve(adapter, formats.DTYPES[options.dtype])
    if options.plot:
        curve_plot(points, adapter.name).save(options.plot)
    rows = [f"{p.rank:5d}  {p.energy:7.2%}  {p.megabytes:8.2f} MB" for p in points]
    answer: RanksAnswer = {"name": adapter.name, "points": points}
    return answer, "\n".join([" rank   energy       size", *rows])

"""The command `batch`: several methods and strengths at once."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, TypedDict

from merging.batch import BatchRow, OutputFormat, batch, format_value, plan_batch, summary_table
from merging.cli.merge_options import add_merge_options, request_of
from merging.cli.parser import CommandParser
from merging.diffusion.base import load_base
from merging.methods import METHODS
from merging.options import MergeOptions
from merging.runtime.progress import Progress


def add_batch(sub: CommandParser) -> None:
    """The command's options."""
    pair = "cat.safetensors dog.safetensors"
    sub.describe(
        "FILE[@STRENGTH]… --out ALL.zip [options]",
        f"{pair} --methods iteris sum --out all.zip",
        f"{pair} --strengths 0.6,0.8,1 0.8 --out all.zip",
    )
    add_merge_options(sub)
    several: dict[str, Any] = {"action": "extend", "nargs": "+"}
    sub.essentials.add_argument(
        "--methods",
        **several,
        choices=METHODS,
        metavar="METHOD",
        help=f"the methods to try; the command methods lists them (default: {MergeOptions.method})",
    )
    sub.essentials.add_argument(
        "--strengths",
        **several,
        type=number_list,
        metavar="LIST",
        help="one list per FILE, in order, such as 0.6,0.8,1 (default: the FILEs' own strengths)",
    )
    sub.essentials.add_argument("--out", type=Path, required=True, help="the zip to write")
    sub.set_defaults(run=run_batch)


class BatchAnswer(TypedDict):
    """The zip, and a summary row for every merge in it."""

    out: str
    merges: tuple[BatchRow, ...]


def run_batch(options: argparse.Namespace, progress: Progress) -> tuple[BatchAnswer, str]:
    """Merge with every method and strength, write the zip and print its summary."""
    base = load_base(options.base, options.device, options.precision)
    methods = options.methods or [MergeOptions.method]
    request = request_of(options, base, methods[0])
    merges = plan_batch(request, options.methods or [request.method], options.strengths or ())
    output = OutputFormat(options.base, options.format, options.dtype)
    rows = batch(merges, options.out, base, output, progress)
    answer: BatchAnswer = {"out": str(options.out), "merges": rows}
    failed = [f"{row.stem} failed: {row.problem}" for row in rows if row.problem]
    table = [" | ".join(map(format_value, line)) for line in summary_table(rows, request)]
    return answer, "\n".join([f"{options.out}: {len(rows) - len(failed)} merges", *table, *failed])


def number_list(text: str) -> tuple[float, ...]:
    """The numbers of "0.6,0.8,1"; raises argparse's error, which names the option."""
    try:
        return tuple(float(number) for number in text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no list of numbers") from error

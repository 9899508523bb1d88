"""The command `batch`: several methods and strengths at once."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, TypedDict

from merging.batch import Filing, Row, batch, cells, shown, table_of
from merging.cli.merge_options import add_merge_options, request_of
from merging.diffusion.base import load_base
from merging.methods import METHODS
from merging.options import MergeOptions
from merging.runtime.progress import Progress


def add_batch(sub: argparse.ArgumentParser) -> None:
    """The command's options."""
    add_merge_options(sub)
    several: dict[str, Any] = {"action": "extend", "nargs": "+"}
    sub.add_argument("--methods", **several, choices=METHODS, help="all of them are tried")
    sub.add_argument(
        "--strengths",
        **several,
        type=numbers,
        metavar="LIST",
        help="one list per FILE, in order, such as 0.6,0.8,1; without, those of the FILEs",
    )
    sub.add_argument("--out", type=Path, required=True, help="the zip to write")
    sub.set_defaults(run=run_batch)


class BatchAnswer(TypedDict):
    """The zip, and what there is to say of every merge in it."""

    out: str
    merges: tuple[Row, ...]


def run_batch(options: argparse.Namespace, progress: Progress) -> tuple[BatchAnswer, str]:
    """Make the batch and tell of it."""
    base = load_base(options.base, options.device, options.precision)
    methods = options.methods or [MergeOptions.method]
    request = request_of(options, base, methods[0])
    listed = cells(request, options.methods or [request.method], options.strengths or ())
    filing = Filing(options.base, options.format, options.dtype)
    rows = batch(listed, options.out, base, filing, progress)
    answer: BatchAnswer = {"out": str(options.out), "merges": rows}
    failed = [f"{row.stem} could not be made: {row.problem}" for row in rows if row.problem]
    table = [" | ".join(map(shown, line)) for line in table_of(rows, request)]
    return answer, "\n".join([f"{options.out}: {len(rows) - len(failed)} merges", *table, *failed])


def numbers(text: str) -> tuple[float, ...]:
    """ "0.6,0.8,1". Raises argparse's own error, which names the option, for anything else."""
    try:
        return tuple(float(word) for word in text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} are no numbers with commas") from error

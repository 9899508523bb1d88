"""The command `batch`: several methods and strengths at once."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import Any, TypedDict

from merging.batch import (
    BatchRow,
    BatchWork,
    OutputFormat,
    batch,
    format_value,
    plan_batch,
    spread_batch,
    summary_table,
)
from merging.batch.matrix import PictureScene
from merging.cli.arguments.merge_options import (
    add_merge_options,
    needs_base,
    read_option,
    request_of,
)
from merging.cli.arguments.worker_options import add_workers, read_workers, reading_device
from merging.cli.parser import CommandParser, did_you_mean
from merging.diffusion.base import BaseChoice, load_base
from merging.methods import METHODS
from merging.options import MergeOptions, merge_options
from merging.runtime.progress import Progress


def add_batch(sub: CommandParser) -> None:
    """The command's options."""
    pair = "cat.safetensors dog.safetensors"
    sub.describe(
        "FILE[@STRENGTH]… --out ALL.zip [options]",
        f"{pair} --methods iteris sum --out all.zip",
        f'{pair} --strengths 0.6,1 0.8 --vary rank=4,8 --matrix "sks cat, qfj dog" --out all.zip',
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
    sub.essentials.add_argument("-o", "--out", type=Path, required=True, help="the zip to write")
    add_matrix(sub)
    add_workers(sub)
    sub.set_defaults(run=run_batch)


def add_matrix(sub: CommandParser) -> None:
    """Add what makes a matrix of pictures of the merges."""
    text = "draw every merge with this prompt, and all as matrix.png (default: no pictures)"
    sub.essentials.add_argument("--matrix", metavar="PROMPT", help=text)
    sub.essentials.add_argument(
        "--vary",
        action="extend",
        nargs="+",
        type=varied_option,
        default=[],
        metavar="OPTION=LIST",
        help="a further axis: an option of a merge and its values, such as ridge=0.001,0.01 "
        "(default: none)",
    )
    add = sub.experts.add_argument
    scene = PictureScene("")
    add("--picture-seed", type=int, metavar="N", default=scene.seed, help="seed of all pictures")
    add("--picture-steps", type=int, metavar="N", default=scene.steps, help="sampling steps")
    text = "how closely to follow the prompt (default: the best for the base model)"
    add("--picture-guidance", type=float, metavar="N", help=text)


class BatchAnswer(TypedDict):
    """The zip, and a summary row for every merge in it."""

    out: str
    merges: tuple[BatchRow, ...]


def run_batch(options: argparse.Namespace, progress: Progress) -> tuple[BatchAnswer, str]:
    """Merge with every method and strength, write the zip and print its summary."""
    workers = read_workers(options)
    methods = options.methods or [MergeOptions.method]
    refined = any(dict(options.vary).get("refine", ()))
    base = None
    if options.matrix or refined or any(needs_base(options, method) for method in methods):
        base = load_base(options.base, reading_device(options), options.precision)
    request = request_of(options, base, methods[0])
    merges = plan_batch(
        request, options.methods or [request.method], options.strengths or (), dict(options.vary)
    )
    scene = options.matrix and PictureScene(
        options.matrix,
        options.picture_seed,
        options.picture_steps,
        options.picture_guidance,
    )
    base_name = options.base if base else request.sources[0].adapter.base
    output = OutputFormat(base_name, options.format, options.dtype, scene=scene or None)
    if workers:
        choice = BaseChoice(options.base, options.device, options.precision) if base else None
        rows = spread_batch(BatchWork(merges, output, choice), options.out, workers, progress)
    else:
        rows = batch(merges, options.out, base, output, progress)
    answer: BatchAnswer = {"out": str(options.out), "merges": rows}
    failed = [f"{row.stem} failed: {row.problem}" for row in rows if row.problem]
    table = [" | ".join(map(format_value, line)) for line in summary_table(rows, request)]
    return answer, "\n".join([f"{options.out}: {len(rows) - len(failed)} merges", *table, *failed])


def varied_option(text: str) -> tuple[str, tuple[Any, ...]]:
    """An option of a merge and its values, of "ridge=0.001,0.01"; argparse's error if wrong."""
    name, _, values = text.partition("=")
    options = {option.flag.removeprefix("--"): option for option in merge_options().values()}
    options.pop("method")  # it has --methods
    if name not in options or not values:
        meant = did_you_mean(name, options) or f"; there are {', '.join(options)}"
        raise argparse.ArgumentTypeError(f"{text!r} is no OPTION=VALUE,VALUE{meant}")
    option = options[name]
    read = str if option.kind == "choice" else partial(read_option, option)
    return option.name, tuple(map(read, values.split(",")))


def number_list(text: str) -> tuple[float, ...]:
    """The numbers of "0.6,0.8,1"; raises argparse's error, which names the option."""
    try:
        return tuple(float(number) for number in text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no list of numbers") from error

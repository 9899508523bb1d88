"""The command `tune`: strengths for a merge, by search against a judge."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from statistics import fmean
from typing import TypedDict, get_args

from merging.cli.arguments.file_argument import parse_file_argument
from merging.cli.arguments.merge_options import add_merge_options, request_of
from merging.cli.arguments.reference_argument import reference_pictures
from merging.cli.parser import CommandParser
from merging.diffusion.base import load_base
from merging.methods import METHODS
from merging.options import MergeOptions
from merging.runtime.progress import Progress
from merging.tuning.judges import JudgeName, Pictures
from merging.tuning.knobs import file_argument
from merging.tuning.plot import search_plot
from merging.tuning.run import Tuned, Tuning, tune


def add_tune(sub: CommandParser) -> None:
    """The options of ``tune``."""
    sub.describe(
        "FILE[@STRENGTH] FILE[@STRENGTH]… --out SEARCH.json [options]",
        "cat.safetensors dog.safetensors --method sum --out search.json",
        "cat.safetensors dog.safetensors --method tsv --judge advantage --budget 20 --out s.json",
    )
    add_merge_options(sub)
    add = sub.essentials.add_argument
    add(
        "--method",
        choices=METHODS,
        default=MergeOptions.method,
        metavar="METHOD",
        help="how to merge; the command methods lists what there is",
    )
    add(
        "--judge",
        choices=get_args(JudgeName),
        default=Tuning.judge,
        help="objective: of the layers, without pictures; advantage: whether the LoRAs find their "
        "concepts in pictures; clip: pictures beside prompts and references",
    )
    text = "merges by search, and as many with random strengths beside it"
    add("--budget", type=int, metavar="N", default=Tuning.budget, help=text)
    text = "where the trials are stored; a search that is there goes on"
    add("-o", "--out", type=Path, required=True, metavar="JSON", help=text)
    text = "draw the search (default: no picture)"
    sub.files.add_argument("--plot", type=Path, metavar="PNG", help=text)
    _add_more(sub)
    sub.set_defaults(run=run_tune)


def _add_more(sub: CommandParser) -> None:
    add = sub.experts.add_argument
    add("--blocks", action="store_true", help="a strength for each block of each LoRA")
    text = "end the search after so long (default: only after the budget)"
    add("--minutes", type=float, metavar="M", help=text)
    text = "pictures of a merge, for the judges that look at pictures"
    add("--pictures", type=int, metavar="N", default=Pictures.count, help=text)
    text = "sampling steps of those pictures"
    add("--picture-steps", type=int, metavar="N", default=Pictures.steps, help=text)
    sub.files.add_argument(
        "--reference",
        action="extend",
        nargs="+",
        default=[],
        metavar="TRIGGER=PICTURES",
        help="a folder or a picture of the real thing, for --judge clip (default: none)",
    )


class TunedRow(TypedDict):
    """The best of one kind."""

    strengths: list[float]  # factors of the strengths as given
    score: float  # on the prompts that were tuned on
    held_out: float


class TuneAnswer(TypedDict):
    """The strengths to use, and how they were found."""

    verdict: str
    files: list[str]  # FILE@strength
    trials: int
    best: dict[str, TunedRow]


def run_tune(options: argparse.Namespace, progress: Progress) -> tuple[TuneAnswer, str]:
    """Search for strengths, and say whether they are any better."""
    base = load_base(options.base, options.device, options.precision)
    request = request_of(options, base, options.method)
    references = reference_pictures(options.reference)
    pictures = Pictures(options.pictures, options.picture_steps, references)
    tuning = Tuning(options.judge, options.budget, options.minutes, options.blocks, pictures)
    tuned = tune(base, request, tuning, options.out, progress)
    if options.plot:
        search_plot(tuned.trials).save(options.plot)
    files = [str(parse_file_argument(text).path) for text in options.files]
    arguments = [
        file_argument(file, source)
        for file, source in zip(files, tuned.request.sources, strict=True)
    ]
    best: dict[str, TunedRow] = {
        kind: {
            "strengths": list(trial.factors),
            "score": trial.score,
            "held_out": fmean(tuned.held_out[kind]),
        }
        for kind, trial in tuned.best.items()
    }
    answer: TuneAnswer = {
        "verdict": tuned.verdict,
        "files": arguments,
        "trials": len(tuned.trials),
        "best": best,
    }
    return answer, _text(tuned, answer)


def _text(tuned: Tuned, answer: TuneAnswer) -> str:
    lines = [f"{'':10} {'tuned on':>9} {'held out':>9}  times the strengths as given"]
    for kind, row in answer["best"].items():
        shown = " ".join(f"{factor:g}" for factor in row["strengths"])
        lines.append(f"{kind:10} {row['score']:9.4f} {row['held_out']:9.4f}  {shown}")
    command = ["merge", *answer["files"], "--method", tuned.request.method]
    return "\n".join([*lines, tuned.verdict, shlex.join(command)])

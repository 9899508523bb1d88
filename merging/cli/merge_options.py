"""The options that say how to merge, shared by the commands that merge, and what they mean."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from merging import formats
from merging.cli.arguments import json_file, lines_of, one_each, rank, rows
from merging.cli.file_argument import parsed, words
from merging.diffusion.base import Base
from merging.export.recipe import replay
from merging.options import (
    Fallback,
    Mode,
    Padding,
    Precision,
    Rank,
    Targets,
    Teacher,
    Tokens,
    Weighting,
)
from merging.request import MergeRequest, Source

ROWS = "most positions of one picture that count; all: every one"
STRENGTHS = "FILE@0.8, or apart and by blocks: FILE@0.8:te=0.5:unet=1:lbw=MIDD"


def add_asking(sub: argparse.ArgumentParser) -> None:
    """Files, base and every option of a merge but the method."""
    default = MergeRequest.__dataclass_fields__
    sub.add_argument("files", nargs="+", metavar="FILE[@STRENGTH]", help=STRENGTHS)
    add_base(sub)
    several: dict[str, Any] = {"action": "extend", "nargs": "+"}
    sub.add_argument("--trigger", **several, help="one per FILE, in order")
    sub.add_argument("--prompts", **several, type=Path, help="one per FILE: a prompt a line")
    sub.add_argument("--rank", type=rank, help="exact, auto, full or N; full with --format full")
    sub.add_argument("--format", choices=formats.WRITERS, default="kohya")
    sub.add_argument("--dtype", choices=formats.DTYPES, default="fp16")
    sub.add_argument("--targets", choices=get_args(Targets), default=default["targets"].default)
    sub.add_argument("--samples", type=int, default=default["samples"].default)
    sub.add_argument(
        "--rows", type=rows, metavar="N|all", default=default["rows"].default, help=ROWS
    )
    sub.add_argument("--fallback", choices=get_args(Fallback), default=default["fallback"].default)
    sub.add_argument("--ridge", type=float, default=default["ridge"].default, help="α₂")
    sub.add_argument("--cross-ridge", type=float, metavar="W", help="α₁, in place of --fallback")
    sub.add_argument("--mode", choices=get_args(Mode), default=default["mode"].default)
    sub.add_argument(
        "--lambda",
        dest="weighting",
        choices=get_args(Weighting),
        default=default["weighting"].default,
        help="how the LoRAs' samples are balanced",
    )
    sub.add_argument("--padding", choices=get_args(Padding), default=default["padding"].default)
    sub.add_argument("--tokens", choices=get_args(Tokens), default=default["tokens"].default)
    sub.add_argument("--teacher", choices=get_args(Teacher), default=default["teacher"].default)
    sub.add_argument(
        "--composed-weight", type=float, metavar="W", default=default["composed_weight"].default
    )
    sub.add_argument("--preserve", type=float, metavar="W", default=default["preserve"].default)
    sub.add_argument("--rounds", type=int, help="the paper's iteration instead of one pass")
    sub.add_argument("--seed", type=int, default=0)
    add_words(sub)
    sub.add_argument("--recipe", type=Path, help="replay this recipe with the given files")


def add_words(sub: argparse.ArgumentParser) -> None:
    """Textual inversions that are not in a LoRA's file."""
    sub.add_argument(
        "--embedding",
        action="extend",
        nargs="+",
        default=[],
        metavar="FILE[=WORD]",
        help="textual inversions beside the LoRAs",
    )


def add_base(sub: argparse.ArgumentParser) -> None:
    """Which model, and where it works."""
    sub.add_argument("--base", default="mini", help="mini, sd15, a folder or a Hub id")
    sub.add_argument("--device", choices=("auto", "cpu", "cuda", "mps"), default="auto")
    sub.add_argument(
        "--precision", choices=get_args(Precision), default="auto", help="of the base model"
    )


def asked(options: argparse.Namespace, base: Base, method: str) -> MergeRequest:
    """The merge that the options describe, by ``method`` unless a recipe names another.

    MergeError for what they cannot mean.
    """
    sources = [parsed(text).source(base) for text in options.files]
    beside = words(options.embedding, base)
    if options.recipe:
        adapters = [source.adapter for source in sources]
        return replay(json_file(options.recipe), adapters, beside)
    return replace(_request(options, sources, method), embeddings=beside)


def _request(options: argparse.Namespace, sources: Sequence[Source], method: str) -> MergeRequest:
    triggers = one_each(options.trigger, len(sources), "--trigger", "")
    prompts = one_each(options.prompts, len(sources), "--prompts", None)
    return MergeRequest(
        sources=tuple(
            replace(source, trigger=trigger, prompts=lines_of(own) if own else ())
            for source, trigger, own in zip(sources, triggers, prompts, strict=True)
        ),
        method=method,
        rank=_default_rank(options) if options.rank is None else options.rank,
        targets=options.targets,
        samples=options.samples,
        rows=options.rows,
        fallback=options.fallback,
        ridge=options.ridge,
        cross_ridge=options.cross_ridge,
        mode=options.mode,
        weighting=options.weighting,
        padding=options.padding,
        tokens=options.tokens,
        teacher=options.teacher,
        composed_weight=options.composed_weight,
        preserve=options.preserve,
        rounds=options.rounds,
        seed=options.seed,
    )


def _default_rank(options: argparse.Namespace) -> Rank:
    """Exact; whole differences have room for an answer of any rank."""
    return "full" if options.format == "full" else "exact"

"""The options that say how to merge, shared by the commands that merge, and what they mean."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, get_args

from merging import formats
from merging.cli.arguments import json_file, lines_of, one_each
from merging.cli.file_argument import parsed, words
from merging.diffusion.base import Base
from merging.export.recipe import replay
from merging.option_field import RANKS, Option
from merging.options import DEVICES, PRESETS, Precision, merge_options, preset_options, read_rank
from merging.request import MergeRequest

READERS: dict[str, Callable[[str], Any]] = {"whole": int, "number": float, "rank": read_rank}
STRENGTHS = "FILE@0.8, or apart and by blocks: FILE@0.8:te=0.5:unet=1:lbw=MIDD"


def add_merge_options(sub: argparse.ArgumentParser) -> None:
    """Files, base and every option of a merge but the method."""
    sub.add_argument("files", nargs="+", metavar="FILE[@STRENGTH]", help=STRENGTHS)
    add_base(sub)
    several: dict[str, Any] = {"action": "extend", "nargs": "+"}
    sub.add_argument("--trigger", **several, help="one per FILE, in order")
    sub.add_argument("--prompts", **several, type=Path, help="one per FILE: a prompt a line")
    sub.add_argument("--format", choices=formats.WRITERS, default="kohya")
    sub.add_argument("--dtype", choices=formats.DTYPES, default="fp16")
    add_preset(sub, "best")
    for option in merge_options().values():
        if option.kind != "method":
            add_option(sub, option)
    add_words(sub)
    sub.add_argument("--recipe", type=Path, help="replay this recipe with the given files")


def add_preset(sub: argparse.ArgumentParser, default: str) -> None:
    """A named setting, over which each option's own flag goes."""
    presets = "; ".join(f"{name}: {preset.help}" for name, preset in PRESETS.items())
    text = f"{presets}. Default: {default}"
    sub.add_argument("--preset", choices=PRESETS, default=default, help=text)


def add_option(sub: argparse.ArgumentParser, option: Option) -> None:
    """One option; where it is not given, the preset's value holds."""
    usual = option.unset if option.default is None else option.default
    usual = "the preset's" if option.name in preset_options("best") else usual
    text = f"{option.title}. {option.help} Default: {usual}".replace("%", "%%")
    common: dict[str, Any] = {"dest": option.name, "default": argparse.SUPPRESS, "help": text}
    if option.kind == "choice":
        sub.add_argument(option.flag, **common, choices=option.choices)
    else:
        other = "".join(f"{word}|" for word in _words_of(option))
        read = partial(option_value, option)
        sub.add_argument(option.flag, **common, type=read, metavar=f"{other}N")


def option_value(option: Option, text: str) -> Any:
    """What is written after a flag; the request checks its bounds.

    Raises argparse's own error, which names the flag, for what is no number.
    """
    if text == option.unset_word:
        return None
    try:
        return READERS[option.kind](text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no number") from error


def _words_of(option: Option) -> tuple[str, ...]:
    """Words that an option takes beside a number."""
    return RANKS if option.kind == "rank" else tuple(filter(None, [option.unset_word]))


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
    sub.add_argument("--device", choices=DEVICES, default="auto")
    sub.add_argument(
        "--precision", choices=get_args(Precision), default="auto", help="of the base model"
    )


def request_of(options: argparse.Namespace, base: Base, method: str) -> MergeRequest:
    """The merge that the options describe, by ``method`` unless a recipe names another.

    MergeError for what they cannot mean.
    """
    sources = [parsed(text).source(base) for text in options.files]
    beside = words(options.embedding, base)
    if options.recipe:
        adapters = [source.adapter for source in sources]
        return replay(json_file(options.recipe), adapters, beside)
    triggers = one_each(options.trigger, len(sources), "--trigger", "")
    prompts = one_each(options.prompts, len(sources), "--prompts", None)
    return MergeRequest(
        sources=tuple(
            replace(source, trigger=trigger, prompts=lines_of(own) if own else ())
            for source, trigger, own in zip(sources, triggers, prompts, strict=True)
        ),
        embeddings=beside,
        **given_options(options) | {"method": method},
    )


def given_options(options: argparse.Namespace) -> dict[str, Any]:
    """The preset's options, and over them those that were given by their own flags.

    Whole differences have room for an answer of any rank, so their rank is full unless it is given.
    """
    flags = {name: getattr(options, name) for name in merge_options() if hasattr(options, name)}
    rank = {"rank": "full"} if options.format == "full" else {}
    return {**rank, **preset_options(options.preset), **flags}

"""The options of a merge on the command line, shared by the commands that merge."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, get_args

from merging import formats
from merging.cli.arguments import one_per_file, read_prompts, read_recipe_file
from merging.cli.file_argument import embeddings_of, parse_file_argument
from merging.diffusion.base import Base
from merging.export.recipe import replay
from merging.option_field import RANKS, Option
from merging.options import DEVICES, PRESETS, Precision, merge_options, preset_options, read_rank
from merging.request import MergeRequest

READERS: dict[str, Callable[[str], Any]] = {"whole": int, "number": float, "rank": read_rank}
STRENGTHS = "FILE@0.8, or apart and by blocks: FILE@0.8:te=0.5:unet=1:lbw=MIDD"


def add_merge_options(sub: argparse.ArgumentParser) -> None:
    """Add files, base model and every option of a merge but the method."""
    sub.add_argument("files", nargs="+", metavar="FILE[@STRENGTH]", help=STRENGTHS)
    add_base(sub)
    several: dict[str, Any] = {"action": "extend", "nargs": "+"}
    sub.add_argument("--trigger", **several, help="one trigger per FILE, in order")
    sub.add_argument("--prompts", **several, type=Path, help="one file per FILE: a prompt per line")
    sub.add_argument("--format", choices=formats.WRITERS, default="kohya")
    sub.add_argument("--dtype", choices=formats.DTYPES, default="fp16")
    add_preset(sub, "best")
    for option in merge_options().values():
        if option.kind != "method":
            add_option(sub, option)
    add_embeddings(sub)
    sub.add_argument("--recipe", type=Path, help="take all options from this recipe")


def add_preset(sub: argparse.ArgumentParser, default: str) -> None:
    """Add --preset: a named setting; flags of single options override it."""
    presets = "; ".join(f"{name}: {preset.help}" for name, preset in PRESETS.items())
    text = f"{presets}. Default: {default}"
    sub.add_argument("--preset", choices=PRESETS, default=default, help=text)


def add_option(sub: argparse.ArgumentParser, option: Option) -> None:
    """Add the flag of one option; without it the preset's value holds."""
    default_text = option.unset if option.default is None else option.default
    default_text = "the preset's" if option.name in preset_options("best") else default_text
    text = f"{option.title}. {option.help} Default: {default_text}".replace("%", "%%")
    common: dict[str, Any] = {"dest": option.name, "default": argparse.SUPPRESS, "help": text}
    if option.kind == "choice":
        sub.add_argument(option.flag, **common, choices=option.choices)
    else:
        special = "".join(f"{value}|" for value in _special_values(option))
        read = partial(read_option, option)
        sub.add_argument(option.flag, **common, type=read, metavar=f"{special}N")


def read_option(option: Option, text: str) -> Any:
    """The value of a flag's text; the request checks its bounds.

    Raises argparse's error, which names the flag, for text that is no number.
    """
    if text == option.unset_word:
        return None
    try:
        return READERS[option.kind](text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from error


def _special_values(option: Option) -> tuple[str, ...]:
    """Values of an option that are no numbers, such as "exact" or "all"."""
    return RANKS if option.kind == "rank" else tuple(filter(None, [option.unset_word]))


def add_embeddings(sub: argparse.ArgumentParser) -> None:
    """Add --embedding: textual inversions that are not in a LoRA's file."""
    sub.add_argument(
        "--embedding",
        action="extend",
        nargs="+",
        default=[],
        metavar="FILE[=WORD]",
        help="textual inversions beside the LoRAs",
    )


def add_base(sub: argparse.ArgumentParser) -> None:
    """Add the base model, its device and its precision."""
    sub.add_argument("--base", default="mini", help="mini, sd15, a folder or a Hub id")
    sub.add_argument("--device", choices=DEVICES, default="auto")
    sub.add_argument(
        "--precision", choices=get_args(Precision), default="auto", help="of the base model"
    )


def request_of(options: argparse.Namespace, base: Base, method: str) -> MergeRequest:
    """The merge that the options describe, by ``method`` unless a recipe names another.

    Raises MergeError for options that do not fit together.
    """
    sources = [parse_file_argument(text).source(base) for text in options.files]
    embeddings = embeddings_of(options.embedding, base)
    if options.recipe:
        adapters = [source.adapter for source in sources]
        return replay(read_recipe_file(options.recipe), adapters, embeddings)
    triggers = one_per_file(options.trigger, len(sources), "--trigger", "")
    prompts = one_per_file(options.prompts, len(sources), "--prompts", None)
    return MergeRequest(
        sources=tuple(
            replace(source, trigger=trigger, prompts=read_prompts(path) if path else ())
            for source, trigger, path in zip(sources, triggers, prompts, strict=True)
        ),
        embeddings=embeddings,
        **chosen_options(options) | {"method": method},
    )


def chosen_options(options: argparse.Namespace) -> dict[str, Any]:
    """The preset's options, overridden by the flags on the command line.

    A file of whole differences holds any rank, so its default rank is full.
    """
    flags = {name: getattr(options, name) for name in merge_options() if hasattr(options, name)}
    rank = {"rank": "full"} if options.format == "full" else {}
    return {**rank, **preset_options(options.preset), **flags}

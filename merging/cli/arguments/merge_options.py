"""The options of a merge on the command line, shared by the commands that merge."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from merging import formats
from merging.base_models import MINI
from merging.cli.arguments.file_argument import embeddings_of, parse_file_argument
from merging.cli.arguments.values import one_per_file, read_prompts, read_recipe_file
from merging.cli.parser import CommandParser
from merging.export.recipe import replay
from merging.methods import METHODS
from merging.option_field import RANKS, Option
from merging.options import DEVICES, Precision, merge_options, read_rank
from merging.presets import PRESETS, preset_options
from merging.request import MergeRequest

if TYPE_CHECKING:
    from merging.diffusion.base import Base  # which imports diffusers

READERS: dict[str, Callable[[str], Any]] = {"whole": int, "number": float, "rank": read_rank}
STRENGTHS = "FILE@0.8, or apart and by blocks: FILE@0.8:te=0.5:unet=1:lbw=MIDD"
BASES = "base model: mini, sd15, a folder in diffusers layout, a .safetensors file or a Hub id"
FORMATS = "kohya: A1111, Forge, ComfyUI, InvokeAI; diffusers; full: whole differences of weights"
ALL_FORMATS = f"{FORMATS}; shira: peft alone, for changes of few entries"


def add_merge_options(sub: CommandParser) -> None:
    """Add files, base model and every option of a merge but the method."""
    several: dict[str, Any] = {"action": "extend", "nargs": "+"}
    add = sub.essentials.add_argument
    add("files", nargs="+", metavar="FILE[@STRENGTH]", help=f"two or more LoRAs: {STRENGTHS}")
    add_base(sub)
    text = "one trigger per FILE, in order (default: as the files say)"
    add("--trigger", **several, metavar="TEXT", help=text)
    add_preset(sub, "best")
    _add_files(sub)
    for option in merge_options().values():
        if option.kind != "method":
            add_option(sub, option)


def _add_files(sub: CommandParser) -> None:
    """Add files that are read besides, and how the result is written."""
    add = sub.files.add_argument
    text = "one file per FILE, a calibration prompt per line (default: prompts from the triggers)"
    add("--prompts", action="extend", nargs="+", type=Path, metavar="FILE", help=text)
    add_embeddings(sub)
    text = "take all options from this recipe (default: from the command line)"
    add("--recipe", type=Path, metavar="JSON", help=text)
    add("--format", choices=formats.ALL_WRITERS, default="kohya", help=ALL_FORMATS)
    add("--dtype", choices=formats.DTYPES, default="fp16", help="numbers of the file")


def add_preset(sub: CommandParser, default: str) -> None:
    """Add --preset: a named setting; flags of single options override it."""
    text = "; ".join(f"{name}: {preset.help}" for name, preset in PRESETS.items())
    sub.essentials.add_argument(
        "--preset", choices=PRESETS, default=default, help=text.replace("%", "%%")
    )


def add_option(sub: CommandParser, option: Option) -> None:
    """Add the flag of one option; without it the preset's value holds."""
    default_text = option.unset if option.default is None else option.default
    if option.name in preset_options("best"):
        default_text = f"the preset's; {default_text} in best"
    text = f"{option.title}. {option.help} (default: {default_text})".replace("%", "%%")
    common: dict[str, Any] = {"dest": option.name, "default": argparse.SUPPRESS, "help": text}
    if option.kind == "choice":
        sub.experts.add_argument(option.flag, **common, choices=option.choices)
    else:
        special = "".join(f"{value}|" for value in _special_values(option))
        read = partial(read_option, option)
        sub.experts.add_argument(option.flag, **common, type=read, metavar=f"{special}N")


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


def add_embeddings(sub: CommandParser) -> None:
    """Add --embedding: textual inversions that are not in a LoRA's file."""
    sub.files.add_argument(
        "--embedding",
        action="extend",
        nargs="+",
        default=[],
        metavar="FILE[=WORD]",
        help="textual inversions beside the LoRAs (default: none)",
    )


def add_base(sub: CommandParser) -> None:
    """Add the base model, its device and its precision."""
    sub.essentials.add_argument("--base", default="mini", help=BASES)
    add_device(sub)
    sub.experts.add_argument(
        "--precision",
        choices=get_args(Precision),
        default="auto",
        help="numbers of the base model at work; auto is fp32 on a CPU, fp16 elsewhere",
    )


def add_device(sub: CommandParser) -> None:
    """Add where the base model works."""
    text = "where the base model works; auto takes the best that is there"
    sub.experts.add_argument("--device", choices=DEVICES, default="auto", help=text)


def needs_base(options: argparse.Namespace, method: str) -> bool:
    """Whether the method, a refinement, a recipe or a file needs the base model's weights."""
    refine = getattr(options, "refine", 0)
    if options.recipe:
        recipe = read_recipe_file(options.recipe)
        method, refine = str(recipe.get("method")), recipe.get("refine")
    if refine or method not in METHODS or METHODS[method].needs != "nothing":
        return True
    return any(parse_file_argument(text).needs_base for text in options.files)


def request_of(options: argparse.Namespace, base: Base | None, method: str) -> MergeRequest:
    """The merge that the options describe, by ``method`` unless a recipe names another.

    Without a base the files are read for the one that --base names, or that they fit. Raises
    MergeError for options that do not fit together.
    """
    is_named = options.base in formats.TABLES and options.base != MINI.name  # mini is the default
    named = formats.table(options.base) if is_named else None
    sources = [parse_file_argument(text).source(base, named) for text in options.files]
    table = base.table if base else formats.table(sources[0].adapter.base)
    embeddings = embeddings_of(options.embedding, table)
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

    A file of whole or sparse differences holds any rank, so its default rank is full.
    """
    flags = {name: getattr(options, name) for name in merge_options() if hasattr(options, name)}
    rank = {"rank": "full"} if options.format in ("full", "shira") else {}
    return {**rank, **preset_options(options.preset), **flags}

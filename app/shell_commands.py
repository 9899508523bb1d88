"""What the page just did as commands, to be copied to a terminal and run where the files lie.

Files go by the names that the visitor gave them; nothing of this machine's folders is told.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from app.schemas.batch import BatchOrder
from app.schemas.draw import DrawOrder
from app.schemas.export import ExportOrder
from app.schemas.merge import MergeOrder, SelectedFile
from merging.option_field import Option
from merging.options import MergeOptions, merge_options

PROGRAM = ("python", "-m", "merging")


def merge_command(order: MergeOrder, out: str, form: str = "kohya") -> str:
    """The merge; with prompts of the visitor's own it takes all from the recipe, saved beside."""
    options = _options(order)
    if form == "full" and order.rank == MergeOptions.rank:
        options += ["--rank", str(MergeOptions.rank)]  # a full file's own default is another
    words = _asked(order, options, "recipe.json")
    words += ["--format", form] if form != "kohya" else []
    return shlex.join([*PROGRAM, "merge", *words, "--out", out])


def take_commands(order: ExportOrder, out: str) -> str:
    """The merge, and its file as it was wanted."""
    merged, source = order.merged, order.source
    form = "full" if source == merged.full else "kohya"
    words = ["convert", source.name, out, "--format", order.form, "--dtype", order.dtype]
    words += ["--rank", order.rank] if order.rank != "exact" else []
    asked = merge_command(merged.order, source.name, form)
    return f"{asked}\n{shlex.join([*PROGRAM, *words])}"


def batch_command(order: BatchOrder, out: str, recipe: str) -> str:
    """The batch; ``recipe`` is the name of one in its zip, for prompts of the visitor's own."""
    options = _options(replace(order.merge, method=MergeOptions.method))
    words = _asked(order.merge, options, recipe)
    words += ["--methods", *order.methods]
    picks = zip(order.merge.picks, order.strengths, strict=True)
    tried = [listed or (pick.weighed.strength,) for pick, listed in picks]
    # with = because a list may begin with a minus
    words += [f"--strengths={','.join(f'{value:g}' for value in listed)}" for listed in tried]
    return shlex.join([*PROGRAM, "batch", *words, "--out", out])


def _asked(order: MergeOrder, options: list[str], recipe: str) -> list[str]:
    """Files, base, and how to merge: by these options, or all of it by the recipe."""
    words = [*map(weighed, order.picks), "--base", order.base]
    if order.prompts.strip() or any(pick.prompts for pick in order.picks):
        words += ["--recipe", recipe]
    else:
        triggers = [pick.trigger for pick in order.picks]
        words += ["--trigger", *triggers] if any(triggers) else []
        words += options
    words += _precision(order.precision)
    words += ["--dtype", order.dtype] if order.dtype != "fp16" else []
    return words + _words(order.words)


def draw_commands(order: DrawOrder) -> str:
    """The comparison, a command per column."""
    picks = [weighed(pick) for pick in order.picks]
    columns: dict[str, tuple[list[str], str]] = {}
    if "base" in order.columns:
        columns["base"] = ([], "sum")
    if "each" in order.columns:
        columns |= {
            pick.name: ([word], "sum") for pick, word in zip(order.picks, picks, strict=True)
        }
    columns |= {
        name: (picks, compose)
        for name, compose in (("sum", "sum"), ("gated", "gated"))
        if name in order.columns
    }
    if "merged" in order.columns and order.merged is not None:
        columns["merged"] = ([order.merged.name], "sum")
    lines = [_render(order, name, *own) for name, own in columns.items()]
    for other in order.others:
        its_own = replace(order, words=other.embeddings)
        lines.append(_render(its_own, f"merge-{other.entry}", [other.path.name], "sum"))
    return "\n".join(lines)


def weighed(pick: SelectedFile) -> str:
    """FILE@strength, as `merging.lora_file` reads it."""
    parts = [f"{pick.strength:g}"]
    parts += [f"te={pick.text_encoder:g}"] if pick.text_encoder is not None else []
    parts += [f"unet={pick.unet:g}"] if pick.unet is not None else []
    parts += [f"lbw={pick.blocks.strip()}"] if pick.blocks.strip() else []
    if pick.origin:  # its commit follows an @ too, so the strength is always said
        return f"{pick.origin}@{':'.join(parts)}"
    return f"{pick.name}.safetensors" + ("" if parts == ["1"] else f"@{':'.join(parts)}")


def _words(picks: Sequence[SelectedFile]) -> list[str]:
    """Textual inversions, each FILE=WORD where the word can be told."""
    files = [
        "=".join(filter(None, [pick.origin or f"{pick.name}.safetensors", pick.trigger]))
        for pick in picks
    ]
    return ["--embedding", *files] if files else []


def _precision(name: str) -> list[str]:
    """Of the base model, where the visitor chose one."""
    return [] if name == "auto" else ["--precision", name]


def _options(order: MergeOrder) -> list[str]:
    """Those that are not at their defaults."""
    words = []
    for option in merge_options().values():
        value = getattr(order, option.name)
        if value != option.default:
            words += [option.flag, _text(option, value)]
    return words


def _text(option: Option, value: Any) -> str:
    """A value as it is written after its flag."""
    if value is None:
        return option.unset_word
    return f"{value:g}" if isinstance(value, float) else str(value)


def _references(order: DrawOrder) -> list[str]:
    """Pictures of the real thing, by their own names."""
    pairs = [f"{name}={file.name}" for name, files in order.references.items() for file in files]
    return ["--reference", *pairs] if pairs else []


def _render(order: DrawOrder, name: str, adapters: list[str], compose: str) -> str:
    words = ["render", "--base", order.base, *_precision(order.precision)]
    words += ["--adapter", *adapters] if adapters else []
    words += ["--prompt", *order.prompts, "--seed", f"{order.seed}", "--steps", f"{order.steps}"]
    words += ["--guidance", f"{order.guidance:g}"]
    words += ["--count", f"{order.count}"] if order.count > 1 else []
    words += ["--negative", order.negative.strip()] if order.negative.strip() else []
    words += ["--sampler", order.sampler] if order.sampler != "DDIM" else []
    words += ["--size", order.size.strip()] if order.size.strip() else []
    words += ["--compose", compose] if compose != "sum" else []
    words += _words(order.words)
    words += _references(order)
    words += ["--maps", *order.triggers] if order.maps and order.triggers else []
    return shlex.join([*PROGRAM, *words, "--out", f"pictures/{name}"])

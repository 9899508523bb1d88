"""What the page has done as commands, to copy to a terminal and run in the files' folder.

Files have the visitor's names; paths of this machine are not shown.
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
from app.schemas.tuning import TuneOrder
from merging.diffusion.compose import COMPOSITIONS
from merging.option_field import Option
from merging.options import MergeOptions, merge_options

PROGRAM = ("python", "-m", "merging")


def merge_command(order: MergeOrder, out: str, form: str = "kohya") -> str:
    """The command of a merge; with the visitor's prompts it uses the recipe's file."""
    options = _option_arguments(order)
    if form == "full" and order.rank == MergeOptions.rank:
        options += ["--rank", str(MergeOptions.rank)]  # the default of full files is another rank
    arguments = _merge_arguments(order, options, "recipe.json")
    arguments += ["--format", form] if form != "kohya" else []
    return shlex.join([*PROGRAM, "merge", *arguments, "--out", out])


def take_commands(order: ExportOrder, out: str) -> str:
    """The commands of an export: the merge, and the conversion of its file."""
    merged, source = order.merged, order.source
    form = "full" if source == merged.full else "kohya"
    arguments = ["convert", source.name, out, "--format", order.form, "--dtype", order.dtype]
    arguments += ["--rank", order.rank] if order.rank != "exact" else []
    merge = merge_command(merged.order, source.name, form)
    return f"{merge}\n{shlex.join([*PROGRAM, *arguments])}"


def batch_command(order: BatchOrder, out: str, recipe: str) -> str:
    """The command of a batch; ``recipe`` is a recipe in its zip, for the visitor's prompts."""
    options = _option_arguments(replace(order.merge, method=MergeOptions.method))
    arguments = _merge_arguments(order.merge, options, recipe)
    arguments += ["--methods", *order.methods]
    picks = zip(order.merge.picks, order.strengths, strict=True)
    strengths = [values or (pick.lora_input.strength,) for pick, values in picks]
    lists = [",".join(f"{value:g}" for value in values) for values in strengths]
    # with =, since a list may begin with a minus
    arguments += [f"--strengths={text}" for text in lists]
    flags = {option.name: option.flag.removeprefix("--") for option in merge_options().values()}
    for name, tried in order.varied:
        listed = ",".join(_value_text(merge_options()[name], value) for value in tried)
        arguments += ["--vary", f"{flags[name]}={listed}"]
    if order.scene:
        arguments += [f"--matrix={order.scene.prompts[0]}", "--picture-seed", f"{order.scene.seed}"]
        arguments += ["--picture-steps", f"{order.scene.steps}"]
        arguments += ["--picture-guidance", f"{order.scene.guidance:g}"]
    return shlex.join([*PROGRAM, "batch", *arguments, "--out", out])


def tune_command(order: TuneOrder) -> str:
    """The command of a search for strengths, which begins anew."""
    options = _option_arguments(order.merge)
    arguments = _merge_arguments(replace(order.merge, dtype="fp16"), options, "recipe.json")
    arguments += ["--judge", order.judge, "--budget", f"{order.budget}"]
    return shlex.join([*PROGRAM, "tune", *arguments, "--out", "search.json"])


def _merge_arguments(order: MergeOrder, options: list[str], recipe: str) -> list[str]:
    """Files, base model, and either these options or, with the visitor's prompts, the recipe."""
    arguments = [*map(file_argument, order.picks), "--base", order.base]
    if order.prompts.strip() or any(pick.prompts for pick in order.picks):
        arguments += ["--recipe", recipe]
    else:
        triggers = [pick.trigger for pick in order.picks]
        arguments += ["--trigger", *triggers] if any(triggers) else []
        arguments += options
    arguments += _precision_arguments(order.precision)
    arguments += ["--dtype", order.dtype] if order.dtype != "fp16" else []
    return arguments + _embedding_arguments(order.words)


def draw_commands(order: DrawOrder) -> str:
    """The commands of a comparison, one per column."""
    picks = [file_argument(pick) for pick in order.picks]
    columns: dict[str, tuple[list[str], str]] = {}
    if "base" in order.columns:
        columns["base"] = ([], "sum")
    if "each" in order.columns:
        columns |= {
            pick.name: ([file], "sum") for pick, file in zip(order.picks, picks, strict=True)
        }
    columns |= {name: (picks, name) for name in COMPOSITIONS if name in order.columns}
    if "merged" in order.columns and order.merged is not None:
        columns["merged"] = ([order.merged.name], "sum")
    lines = [_render(order, name, *column) for name, column in columns.items()]
    for other in order.others:
        other_order = replace(order, words=other.embeddings)
        lines.append(_render(other_order, f"merge-{other.entry}", [other.path.name], "sum"))
    return "\n".join(lines)


def file_argument(pick: SelectedFile) -> str:
    """FILE@strength, as `merging.lora_file` reads it."""
    parts = [f"{pick.strength:g}"]
    parts += [f"te={pick.text_encoder:g}"] if pick.text_encoder is not None else []
    parts += [f"unet={pick.unet:g}"] if pick.unet is not None else []
    parts += [f"lbw={pick.blocks.strip()}"] if pick.blocks.strip() else []
    if pick.origin:  # it has an @ before its commit, so the strength is always written
        return f"{pick.origin}@{':'.join(parts)}"
    return f"{pick.name}.safetensors" + ("" if parts == ["1"] else f"@{':'.join(parts)}")


def _embedding_arguments(picks: Sequence[SelectedFile]) -> list[str]:
    """--embedding FILE=WORD …, without =WORD where there are several words."""
    files = [
        "=".join(filter(None, [pick.origin or f"{pick.name}.safetensors", pick.trigger]))
        for pick in picks
    ]
    return ["--embedding", *files] if files else []


def _precision_arguments(name: str) -> list[str]:
    """--precision, if it is not the default."""
    return [] if name == "auto" else ["--precision", name]


def _option_arguments(order: MergeOrder) -> list[str]:
    """Flags of the options that are not at their defaults."""
    arguments = []
    for option in merge_options().values():
        value = getattr(order, option.name)
        if value != option.default:
            arguments += [option.flag, _value_text(option, value)]
    return arguments


def _value_text(option: Option, value: Any) -> str:
    """An option's value after its flag."""
    if value is None:
        return option.unset_word
    return f"{value:g}" if isinstance(value, float) else str(value)


def _reference_arguments(order: DrawOrder) -> list[str]:
    """--reference TRIGGER=FILE …, for the reference pictures."""
    pairs = [f"{name}={file.name}" for name, files in order.references.items() for file in files]
    return ["--reference", *pairs] if pairs else []


def _render(order: DrawOrder, name: str, adapters: list[str], compose: str) -> str:
    arguments = ["render", "--base", order.base, *_precision_arguments(order.precision)]
    arguments += ["--adapter", *adapters] if adapters else []
    arguments += ["--prompt", *order.prompts, "--seed", f"{order.seed}"]
    arguments += ["--steps", f"{order.steps}"]
    arguments += ["--guidance", f"{order.guidance:g}"]
    arguments += ["--count", f"{order.count}"] if order.count > 1 else []
    arguments += ["--negative", order.negative.strip()] if order.negative.strip() else []
    arguments += ["--sampler", order.sampler] if order.sampler != "DDIM" else []
    arguments += ["--size", order.size.strip()] if order.size.strip() else []
    arguments += ["--clip-skip", f"{order.clip_skip}"] if order.clip_skip > 1 else []
    arguments += ["--compose", compose] if compose != "sum" else []
    if order.regions and "regions" in COMPOSITIONS[compose].needs:
        arguments += ["--region", *map(str, order.regions)]
    arguments += _embedding_arguments(order.words)
    arguments += _reference_arguments(order)
    arguments += ["--maps", *order.triggers] if order.maps and order.triggers else []
    return shlex.join([*PROGRAM, *arguments, "--out", f"pictures/{name}"])

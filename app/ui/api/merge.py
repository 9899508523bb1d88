"""/merge: one argument for every option of a merge.

The arguments, their defaults and their help are made from the declarations in merging/options.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any, get_args

import gradio as gr

from app.schemas.export import FORMS, ExportOrder
from app.schemas.merge import FinishedMerge, MergeOrder
from app.service import Studio
from app.settings.model import Settings
from app.ui.api.arguments import base_arguments, file_arguments, selected_files
from app.ui.api.checks import Check, number, text
from app.ui.api.endpoint import (
    Answer,
    Argument,
    State,
    add_endpoint,
    choice,
    endpoint,
    progress_then_answer,
)
from app.ui.common import current_client
from app.ui.sections.merge_options import read_value
from merging.methods import METHODS
from merging.option_field import RANKS, Option
from merging.options import MOST, Dtype, merge_options, options_by_stage

ABOUT = """Merge Stable Diffusion 1.x LoRA files into one adapter file, without training.

Returns the file, and the recipe with a report of every layer. Lists have one entry per file, in
the order of the files, or are left out. A call takes from seconds to minutes."""
LONGEST_RANK = 20  # characters
FILES = "two or more LoRAs, and textual inversions that their prompts use, as .safetensors"


def merge_arguments(settings: Settings) -> dict[str, Argument]:
    """All arguments by name, in order; call it inside ``gr.Blocks``."""
    return {
        **request_arguments(settings),
        "dtype": choice(
            "precision of the file, fp16, bf16 or fp32", "dtype", get_args(Dtype), MergeOrder.dtype
        ),
        "file_format": choice(
            "kohya (for A1111, Forge, ComfyUI, InvokeAI), diffusers, full (whole matrices), or "
            "shira (a zip for peft; for changes of few entries, merged with rank full)",
            "file_format",
            tuple(FORMS),
            "kohya",
        ),
    }


def request_arguments(settings: Settings) -> dict[str, Argument]:
    """What is to be merged and how, without the file that is written."""
    return {
        **file_arguments(settings, FILES),
        "prompts": Argument(
            "calibration prompts for all LoRAs, one per line, each with a trigger word",
            "",
            gr.Textbox("", label="prompts"),
            text(),
        ),
        **base_arguments(settings),
        **{option.name: _option_argument(option) for option in options_by_stage()},
    }


def add_merge(studio: Studio) -> None:
    """Add the endpoint with its hidden widgets."""
    arguments = merge_arguments(studio.settings)
    add_endpoint(merge_endpoint(studio, arguments), arguments, "adapter", "report")


def merge_endpoint(
    studio: Studio, arguments: dict[str, Argument]
) -> Callable[..., Iterator[Answer]]:
    """The function that clients call."""
    return endpoint("merge", ABOUT, arguments, partial(_merge, studio))


def _merge(studio: Studio, values: dict[str, Any]) -> Iterator[Answer]:
    """Progress, and at the end the file and the report."""
    session = studio.open_session(current_client())
    order = replace(merge_order(studio, session, values), dtype=values["dtype"])
    answer = partial(_answer, studio, session, values["file_format"])
    yield from progress_then_answer(studio.merge(session, order), answer)


def merge_order(studio: Studio, session: str, values: dict[str, Any]) -> MergeOrder:
    """The merge of a call with `request_arguments`."""
    loras, embeddings = selected_files(studio, session, values)
    others = {name: values[name] for name in ("prompts", "base", "precision")}
    options = {name: read_value(option, values[name]) for name, option in merge_options().items()}
    return MergeOrder(loras, words=embeddings, **others, **options)


def _answer(
    studio: Studio, session: str, file_format: str, merged: FinishedMerge
) -> tuple[str, State]:
    """The path of the file, and the recipe with the report."""
    path = merged.kohya if file_format == "kohya" else merged.diffusers
    order = ExportOrder(merged, form=file_format, dtype=merged.order.dtype)
    if file_format == "full":
        path = merged.full or studio.take(session, order).file
    elif file_format == "shira":
        path = studio.take(session, order).archive
    return str(path), {"recipe": merged.recipe, **merged.report}


def _option_argument(option: Option) -> Argument:
    """The argument of one option in merging/options.py."""
    values = {"choice": tuple(option.choices), "method": tuple(METHODS), "rank": RANKS}
    choices = ", ".join(values.get(option.kind, ()))
    unset = f"; none for {option.unset}" if option.optional else ""
    help = f"{option.title}. {option.help}{f' One of {choices}' if choices else ''}{unset}"
    if values.get(option.kind) and option.kind != "rank":
        return choice(help, option.name, values[option.kind], option.default)
    return Argument(help, option.default, _option_widget(option), _option_check(option))


def _option_widget(option: Option) -> gr.components.Component:
    if option.kind == "rank":  # a word or a number
        return gr.Textbox(str(option.default), label=option.name)
    return gr.Number(
        option.default,
        label=option.name,
        precision=0 if option.kind == "whole" else None,
        minimum=0 if option.unset_zero else option.lowest,
        maximum=option.highest,
    )


def _option_check(option: Option) -> Check:
    """A number within the option's bounds; what else the option asks for is checked with it."""
    if option.kind == "rank":
        return text(LONGEST_RANK)
    bounds = (0.0 if option.unset_zero else None, option.above, option.lowest, -MOST)
    lowest = next(bound for bound in bounds if bound is not None)
    highest = MOST if option.highest is None else option.highest
    return number(lowest, highest, option.kind == "whole", option.optional)

"""/merge: every option of a merge as an argument of its own, for programs.

The arguments, their defaults and their help are made from the declarations in merging/options.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, get_args

import gradio as gr

from app.schemas.export import FORMS, ExportOrder
from app.schemas.merge import FinishedMerge, MergeOrder
from app.service import Studio
from app.settings.model import Settings
from app.ui.api.arguments import base_arguments, file_arguments, picks
from app.ui.api.endpoint import Answer, Argument, State, add_endpoint, answers, choice, endpoint
from app.ui.sections.merge_options import value_of
from merging.methods import METHODS
from merging.option_field import RANKS, Option
from merging.options import Dtype, merge_options, options_by_stage

ABOUT = """Merge Stable Diffusion 1.x LoRA files into one adapter file, without training.

Gives the file and a report of every layer with the recipe. Lists have one entry per file,
in their order, or are left out. A call takes from seconds to minutes."""
FILES = "two or more LoRAs, and textual inversions for their prompts, as .safetensors"


def merge_arguments(settings: Settings) -> dict[str, Argument]:
    """All of them by name, in their order; to be called where widgets may be made."""
    options = {option.name: _option_argument(option) for option in options_by_stage()}
    return {
        **file_arguments(FILES),
        "prompts": Argument(
            "calibration prompts for all, one a line, each saying a trigger",
            "",
            gr.Textbox("", label="prompts"),
        ),
        **base_arguments(settings),
        **options,
        "dtype": Argument(
            "precision of the file, fp16, bf16 or fp32",
            MergeOrder.dtype,
            choice("dtype", get_args(Dtype), MergeOrder.dtype),
        ),
        "file_format": Argument(
            "kohya (for every program), diffusers, or full (every change whole)",
            "kohya",
            choice("file_format", tuple(FORMS), "kohya"),
        ),
    }


def add_merge(studio: Studio) -> None:
    """The endpoint, behind widgets that nobody sees."""
    arguments = merge_arguments(studio.settings)
    add_endpoint(merge_endpoint(studio, arguments), arguments, "adapter", "report")


def merge_endpoint(
    studio: Studio, arguments: dict[str, Argument]
) -> Callable[..., Iterator[Answer]]:
    """The public function."""
    return endpoint("merge", ABOUT, arguments, partial(_merge, studio))


def _merge(studio: Studio, values: dict[str, Any]) -> Iterator[Answer]:
    """Steps with their progress, and at the end the file and the report."""
    session = studio.open_session()
    loras, words = picks(studio, session, values)
    apart = {name: values[name] for name in ("prompts", "base", "precision", "dtype")}
    options = {name: value_of(option, values[name]) for name, option in merge_options().items()}
    order = MergeOrder(loras, words=words, **apart, **options)
    answer = partial(_answer, studio, session, values["file_format"])
    yield from answers(studio.merge(session, order), answer)


def _answer(
    studio: Studio, session: str, file_format: str, merged: FinishedMerge
) -> tuple[str, State]:
    """The file, and everything that is known of it."""
    path = merged.kohya if file_format == "kohya" else merged.diffusers
    if file_format == "full":
        wanted = ExportOrder(merged, form="full", dtype=merged.order.dtype)
        path = merged.full or studio.take(session, wanted).file
    return str(path), {"recipe": merged.recipe, **merged.report}


def _option_argument(option: Option) -> Argument:
    """An option of the library."""
    values = {"choice": tuple(option.choices), "method": tuple(METHODS), "rank": RANKS}
    listed = ", ".join(values.get(option.kind, ()))
    more = f"; none for {option.unset}" if option.optional else ""
    text = f"{option.title}. {option.help}{f' One of {listed}' if listed else ''}{more}"
    return Argument(text, option.default, _option_widget(option, values.get(option.kind, ())))


def _option_widget(option: Option, values: tuple[str, ...]) -> gr.components.Component:
    if option.kind == "rank":  # a number too
        return gr.Textbox(str(option.default), label=option.name)
    if values:
        return choice(option.name, values, option.default)
    return gr.Number(
        option.default,
        label=option.name,
        precision=0 if option.kind == "whole" else None,
        minimum=0 if option.unset_zero else option.lowest,
        maximum=option.highest,
    )

"""/merge: every option of a merge as an argument of its own, for programs.

The arguments, their defaults and their help are made from the declarations in merging/options.py.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, get_args

import gradio as gr

from app.jobs.queue import Step
from app.schemas.export import FORMS, ExportOrder
from app.schemas.merge import FinishedMerge, MergeOrder
from app.service import Studio
from app.settings.model import Settings
from app.ui.api.arguments import (
    PER_FILE,
    State,
    at_last,
    doing,
    picks,
    shown_to_client,
    source_widgets,
)
from app.ui.sections.merge_options import value_of
from merging.methods import METHODS
from merging.option_field import RANKS, Option
from merging.options import Dtype, Precision, merge_options, options_by_stage

ABOUT = """Merge Stable Diffusion 1.x LoRA files into one adapter file, without training.

Gives the file and a report of every layer with the recipe. Lists have one entry per file,
in their order, or are left out. A call takes from seconds to minutes.

Args:
"""
SOURCES = {
    "files": "two or more LoRAs, and textual inversions for their prompts, as .safetensors",
    "strengths": "how strong each is, as in <lora:name:0.8>; 1 unless given",
    "triggers": "the words that call each; those of the files unless given",
    "text_encoder": "strength of each text encoder part, in the place of the whole's",
    "unet": "strength of each UNet part, in the place of the whole's",
    "blocks": "block weights of each, a preset such as MIDD or 12, 17, 20 or 26 numbers",
    "own_prompts": "calibration prompts of each, one a line; made from the trigger unless given",
}


@dataclass(frozen=True)
class Argument:
    """One argument of the endpoint."""

    help: str
    default: Any
    widget: gr.components.Component


def merge_arguments(settings: Settings) -> dict[str, Argument]:
    """All of them by name, in their order; to be called where widgets may be made."""
    files = {
        name: Argument(SOURCES[name], None, widget) for name, widget in source_widgets().items()
    }
    options = {option.name: _option_argument(option) for option in options_by_stage()}
    return {
        **files,
        "prompts": Argument(
            "calibration prompts for all, one a line, each saying a trigger",
            "",
            gr.Textbox("", label="prompts"),
        ),
        "base": Argument(
            "base model, mini (embedded), sd15, or where allowed a folder or a Hub id",
            MergeOrder.base,
            gr.Textbox(settings.base, label="base"),
        ),
        "precision": Argument(
            "of the base model, auto (fp32 on a CPU, else fp16), fp32, fp16 or bf16",
            MergeOrder.precision,
            _choice("precision", get_args(Precision), settings.precision),
        ),
        **options,
        "dtype": Argument(
            "precision of the file, fp16, bf16 or fp32",
            MergeOrder.dtype,
            _choice("dtype", get_args(Dtype), MergeOrder.dtype),
        ),
        "file_format": Argument(
            "kohya (for every program), diffusers, or full (every change whole)",
            "kohya",
            _choice("file_format", tuple(FORMS), "kohya"),
        ),
    }


def add_merge(studio: Studio) -> None:
    """The endpoint, behind widgets that nobody sees."""
    arguments = merge_arguments(studio.settings)
    gr.Button("merge").click(
        merge_endpoint(studio, arguments),
        [argument.widget for argument in arguments.values()],
        [gr.File(label="adapter"), gr.JSON(label="report")],
        api_name="merge",
        concurrency_limit=None,
    )


def merge_endpoint(
    studio: Studio, arguments: dict[str, Argument]
) -> Callable[..., Iterator[tuple[str | None, State]]]:
    """The public function, with a signature and a docstring for programs to read."""
    signature = inspect.Signature(
        [
            inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=each.default)
            for name, each in arguments.items()
        ]
    )

    def merge(*values: Any, **named: Any) -> Iterator[tuple[str | None, State]]:
        bound = signature.bind(*values, **named)
        bound.apply_defaults()
        yield from _merge(studio, bound.arguments)

    merge.__signature__ = signature  # type: ignore[attr-defined]
    merge.__doc__ = ABOUT + "\n".join(
        f"    {name}: {argument.help}" for name, argument in arguments.items()
    )
    return merge


def _merge(studio: Studio, given: dict[str, Any]) -> Iterator[tuple[str | None, State]]:
    """Steps with their progress, and at the end the file and the report."""
    with shown_to_client():
        session = studio.open_session()
        lists = {name: given[name] for name in PER_FILE}
        loras, words = picks(studio, session, given["files"], **lists)
        apart = {name: given[name] for name in ("prompts", "base", "precision", "dtype")}
        options = {name: value_of(option, given[name]) for name, option in merge_options().items()}
        order = MergeOrder(loras, words=words, **apart, **options)
        for item in at_last(studio.merge(session, order)):
            if isinstance(item, Step):
                yield None, doing(item)
            else:
                yield _answer(studio, session, item, given["file_format"])


def _answer(
    studio: Studio, session: str, merged: FinishedMerge, file_format: str
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
        return _choice(option.name, values, option.default)
    return gr.Number(
        option.default,
        label=option.name,
        precision=0 if option.kind == "whole" else None,
        minimum=0 if option.unset_zero else option.lowest,
        maximum=option.highest,
    )


def _choice(name: str, choices: tuple[str, ...], value: str) -> gr.Dropdown:
    return gr.Dropdown(list(choices), value=value, label=name)

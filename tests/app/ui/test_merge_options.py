"""The second step's options: all of the library's, and for each method only its own."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import gradio as gr
import pytest

from app.schemas.merge import MergeOrder
from app.settings.model import Settings
from app.ui.handlers.form import Form
from app.ui.handlers.load_picture import Loader
from app.ui.sections.base_model import base_choice
from app.ui.sections.draw_form import scene_widgets
from app.ui.sections.merge_options import EFFORTS, PAGE_MODE, PAGE_TEACHER, Options, options
from merging.errors import MergeError
from merging.methods import METHODS
from merging.request import MergeRequest


@pytest.fixture(scope="module")
def widgets() -> Options:
    with gr.Blocks():
        return options()


def values(widgets: Options, **typed: Any) -> dict[Any, Any]:
    """What a handler gets of untouched widgets, but for what was typed."""
    every = {
        getattr(widgets, each.name): getattr(widgets, each.name).value for each in fields(widgets)
    }
    return every | {getattr(widgets, name): value for name, value in typed.items()}


def test_every_option_of_a_request_is_on_the_page_at_its_default(widgets: Options) -> None:
    order = widgets.order(values(widgets))
    inputs = ("sources", "embeddings")
    wanted = {each.name: each.default for each in fields(MergeRequest) if each.name not in inputs}
    assert order == wanted | {"teacher": PAGE_TEACHER, "mode": PAGE_MODE, "dtype": "fp16"}
    assert order.keys() <= {each.name for each in fields(MergeOrder)}


@pytest.mark.parametrize(
    ("changed", "effort"),
    [
        ({}, "Balanced"),
        ({"targets": "all", "samples": 100, "rows": None, "rank": 4}, "Thorough"),
        ({"samples": 7, "method": "ties", "mode": "full", "ridge": 0.01, "rounds": 3}, None),
    ],
)
def test_a_recipe_fills_in_what_made_it(
    settings: Settings, changed: dict[str, Any], effort: str | None
) -> None:
    with gr.Blocks():
        states = [gr.State() for _ in range(4)]
        form = Form(*states, base_choice(settings), (), options(), scene_widgets("mini"))
        loader = Loader(form, gr.File(), gr.HTML())
    wanted = {each.name: each.default for each in fields(MergeRequest)} | changed
    filled = loader.options(wanted)
    assert filled[form.options.effort] == effort
    order = form.options.order(values(form.options) | filled)
    told = {name: wanted[name] for name in order.keys() & wanted.keys()}
    assert order == order | told | {"rank": str(wanted["rank"])}


def test_what_is_typed_counts(widgets: Options) -> None:
    typed = {"rank": "fixed", "rank_number": 8, "rounds": " 3 ", "preserve": "0", "cross_ridge": ""}
    order = widgets.order(values(widgets, **typed))
    assert (order["rank"], order["rounds"], order["preserve"]) == ("8", 3, 0.0)
    assert order["cross_ridge"] is None
    with pytest.raises(MergeError, match="Rounds: “many” is no number"):
        widgets.order(values(widgets, rounds="many"))


@pytest.mark.parametrize("name", METHODS)
def test_methods_show_their_own_options_alone(widgets: Options, name: str) -> None:
    shown = {part for part, update in widgets.shown_for(name).items() if update.visible}
    calibrated = {
        widgets.targets,
        widgets.samples,
        widgets.teacher,
        widgets.fallback,
        widgets.effort,
    }
    if METHODS[name].calibrated:
        assert calibrated < shown
    else:
        assert shown <= {widgets.seed}
    assert (widgets.weighting in shown) == (widgets.rounds in shown) == (name == "iteris")


def test_efforts_set_what_a_request_takes(widgets: Options) -> None:
    for name, effort in EFFORTS.items():
        assert widgets.at_effort(name) == {getattr(widgets, key): effort[key] for key in effort}
        assert effort.keys() == {"targets", "samples"}
    assert EFFORTS["Balanced"]["samples"] == MergeRequest.__dataclass_fields__["samples"].default

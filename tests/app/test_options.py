"""The second step's options: all of the library's, and for each method only its own."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import gradio as gr
import pytest

from app.orders import MergeOrder
from app.ui.options import EFFORTS, PAGE_TEACHER, Options, options
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
    assert order == wanted | {"teacher": PAGE_TEACHER, "dtype": "fp16"}
    assert order.keys() <= {each.name for each in fields(MergeOrder)}


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

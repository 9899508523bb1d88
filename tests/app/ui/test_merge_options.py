"""The second step's options: all of the library's, and for each method only its own."""

from __future__ import annotations

from typing import Any

import gradio as gr
import pytest

from app.ui.sections.merge_options import OptionWidgets, option_widgets
from merging.errors import MergeError
from merging.methods import METHODS
from merging.options import MergeOptions, merge_options, option_values
from merging.presets import PRESETS, preset_options


@pytest.fixture(scope="module")
def widgets() -> OptionWidgets:
    with gr.Blocks():
        return option_widgets()


def values(widgets: OptionWidgets, **typed: Any) -> dict[Any, Any]:
    """What a handler gets of untouched widgets, but for what was typed."""
    untouched = {widget: widget.value for widget in widgets.all}
    number = {widgets.rank_number: typed.pop("rank_number")} if "rank_number" in typed else {}
    return untouched | {widgets[name]: value for name, value in typed.items()} | number


def test_every_option_is_on_the_page_at_its_default(widgets: OptionWidgets) -> None:
    order = widgets.order(values(widgets))
    assert order == option_values(MergeOptions()) | {"dtype": "fp16"}
    assert widgets.by_option.keys() == merge_options().keys()
    assert widgets.preset.value == "best"


@pytest.mark.parametrize(
    ("changed", "preset"),
    [
        ({}, "best"),
        ({"targets": "all", "samples": 100, "rows": None, "rank": 4}, "thorough"),
        ({"samples": 7, "method": "ties", "mode": "full", "ridge": 0.01, "rounds": 3}, None),
        ({"fallback": "mean", "ridge": 1e-4, "teacher": "single", "mode": "delta"}, "paper"),
    ],
)
def test_a_recipe_fills_in_what_made_it(
    widgets: OptionWidgets, changed: dict[str, Any], preset: str | None
) -> None:
    recipe = option_values(MergeOptions()) | changed
    shown = widgets.show(recipe)
    assert shown[widgets.preset] == preset
    order = widgets.order(values(widgets) | shown)
    assert {name: order[name] for name in recipe} == recipe


def test_a_recipe_of_another_version_is_shown_as_far_as_it_can_be(widgets: OptionWidgets) -> None:
    shown = widgets.show({"method": "magic", "mode": 3, "samples": "many", "seed": 5})
    assert shown == {widgets["seed"]: 5, widgets.preset: None}


def test_what_is_typed_counts(widgets: OptionWidgets) -> None:
    typed = {"rank": "fixed", "rank_number": 8, "rounds": " 3 ", "preserve": "0", "cross_ridge": ""}
    order = widgets.order(values(widgets, **typed, rows="all"))
    assert (order["rank"], order["rounds"], order["preserve"]) == (8, 3, 0.0)
    assert order["cross_ridge"] is None
    assert order["rows"] is None
    with pytest.raises(MergeError, match="Rounds: “many” is no number"):
        widgets.order(values(widgets, rounds="many"))


@pytest.mark.parametrize("name", METHODS)
def test_methods_show_their_own_options_alone(widgets: OptionWidgets, name: str) -> None:
    shown = {part for part, update in widgets.shown_for(name).items() if update.visible}
    calibrated = {
        *(widgets[option] for option in ("targets", "samples", "teacher", "fallback")),
        widgets.preset,
    }
    if METHODS[name].calibrated:
        assert calibrated < shown
    else:
        assert shown == {widgets["refine"], *([widgets["seed"]] if name == "dare" else [])}
    assert (widgets["weighting"] in shown) == (widgets["rounds"] in shown) == (name == "iteris")
    assert (widgets["cross_ridge"] in shown) == (METHODS[name].calibrated and name != "mix-of-show")


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_sets_what_a_request_takes(widgets: OptionWidgets, name: str) -> None:
    order = widgets.order(values(widgets) | widgets.at_preset(name))
    assert order == option_values(MergeOptions(**preset_options(name))) | {"dtype": "fp16"}

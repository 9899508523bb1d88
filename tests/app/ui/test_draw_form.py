"""The boxes of ways to compose that need them: typed as lines, shown where they are needed."""

from __future__ import annotations

import gradio as gr
import pytest

from app.schemas.draw import COMPOSED, DrawOrder
from app.ui.sections.draw_form import DrawForm, draw_form_widgets, read_regions, regions_update
from merging.errors import MergeError
from merging.io.regions import Region

HALVES = (Region("sks cat", (0, 0, 0.5, 1)), Region("qfj dog", (0.5, 0, 1, 1)))


@pytest.fixture(scope="module")
def form() -> DrawForm:
    with gr.Blocks():
        return draw_form_widgets("mini", gr.Textbox())


def test_an_order_s_regions_come_back_as_they_were(form: DrawForm) -> None:
    order = DrawOrder((), "a sks cat", columns=("base", "regions"), regions=HALVES)
    shown = form.updates_from_order(order)
    values = {widget: widget.value for widget in vars(form).values()}
    values |= {form.columns: ["base"], form.composed: ["regions"]}
    again = form.order_fields({**values, form.regions: shown[form.regions].value})
    assert again["regions"] == HALVES
    assert again["columns"] == ("base", "regions")


@pytest.mark.parametrize("name", COMPOSED)
def test_the_field_is_there_where_boxes_are_needed(name: str) -> None:
    assert regions_update([name]).visible == ("regions" in COMPOSED[name].needs)
    assert regions_update(["base", "gated", name]).visible == ("regions" in COMPOSED[name].needs)


def test_blank_lines_are_none_and_others_must_be_boxes() -> None:
    assert read_regions(" \n\nsks cat=0,0,0.5,1\n") == HALVES[:1]
    with pytest.raises(MergeError, match="'left half' is no region: write"):
        read_regions("left half")

"""What a visitor sees before the first LoRA: a comparison, what this is for, and examples."""

from __future__ import annotations

from collections.abc import Sequence

import gradio as gr

from app.examples import Example
from app.ui.html.pictures import data_url
from app.ui.html.rendering import render_template

DRAWN_BY = "Drawn by a tiny built-in model."
CUT = 37  # per cent: right of the first of three objects, so that whole ones are seen both ways


def comparison(examples: Sequence[Example]) -> None:
    """The first example's two pictures under a slider; nothing where they are missing."""
    shown = next((example.comparison for example in examples if example.comparison), None)
    if shown is None:
        return
    right = f"of {shown.seeds} right"
    sides = [
        (f"Loaded together: {shown.together_shows} {right}", data_url(shown.together)),
        (f"Merged: {shown.merged_shows} {right}", data_url(shown.merged)),
    ]
    html = render_template("comparison", sides=sides, note=DRAWN_BY, cut=CUT)
    gr.HTML(html, elem_id="comparison")


def pitch() -> None:
    """What this is for, in two sentences."""
    gr.HTML(render_template("pitch"), elem_id="pitch")


def example_cards(examples: Sequence[Example]) -> tuple[gr.Button, ...]:
    """A card for every bundled pair of LoRAs, with its picture."""
    if not examples:
        return ()
    with gr.Row(elem_id="examples"):
        return tuple(
            gr.Button(
                example.title,
                icon=str(example.comparison.merged) if example.comparison else None,
                elem_classes="example",
                min_width=90,
            )
            for example in examples
        )

"""The page's first step: examples, files, cards and the base model, and what happens there."""

from __future__ import annotations

import gradio as gr

from app.settings import Settings
from app.shelf import Example
from app.ui import markup
from app.ui.bases import BaseChoice, base_choice
from app.ui.basics import AT_ONCE, QUIET
from app.ui.concepts import Slot, slot
from app.ui.listing import Listing


def example_buttons(shelf: tuple[Example, ...]) -> tuple[gr.Button, ...]:
    """One button for every bundled pair."""
    if not shelf:
        return ()
    with gr.Column(elem_id="examples", elem_classes="sheet"):
        gr.HTML(markup.TRY)
        with gr.Row():
            return tuple(
                gr.Button(f"Try it: {shown.title}", size="sm", min_width=130) for shown in shelf
            )


def add_section(settings: Settings) -> tuple[gr.File, gr.HTML, tuple[Slot, ...], BaseChoice]:
    """Where files arrive, and the place of each."""
    with gr.Column(elem_classes="sheet"):
        gr.HTML(markup.heading(1, "Add LoRAs", "Two or more, made for the same base model."))
        upload = gr.File(
            file_count="multiple",
            file_types=[".safetensors"],
            label="LoRA files (.safetensors)",
            show_label=False,
            height=148,
            elem_id="upload",
        )
        problems = gr.HTML(visible=False)
        slots = tuple(slot() for _ in range(settings.max_files))
        base = base_choice(settings)
    return upload, problems, slots, base


def wire_files(listing: Listing) -> None:
    """Files come, go, and are looked at anew when the base changes."""
    form = listing.form
    changed = {*form.outputs, listing.problems}
    upload = listing.upload
    upload.upload(listing.add_files, {*form.inputs, upload}, {*changed, upload}, **QUIET)
    for place, taken in enumerate(form.slots):
        taken.remove.click(listing.remove(place), form.inputs, changed, **AT_ONCE)
    form.base.radio.input(listing.rebase, form.inputs, form.outputs, **AT_ONCE)

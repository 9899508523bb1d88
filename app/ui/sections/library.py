"""The library: files that were added before, to find, to add again, to pack, or to delete."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from app.settings.model import Settings

PACK = "Pack these into one file"
# Shares of every layer's energy that a pack keeps.
KEEPS = {"all": 1.0, "99.9%": 0.999, "99%": 0.99, "95%": 0.95}


@dataclass(frozen=True)
class PackingWidgets:
    """Files of the library become one, after a question."""

    keep: gr.Radio
    make: gr.Button
    take_out: gr.Button
    offer: gr.State  # a PackOffer, or None
    group: gr.Column
    question: gr.HTML
    accept: gr.Button
    decline: gr.Button

    @property
    def outputs(self) -> set[Any]:
        """What changes when a pack is offered, taken or declined."""
        return {self.offer, self.group, self.question, self.make}


@dataclass(frozen=True)
class LibraryWidgets:
    """The library: files that were added before."""

    section: gr.Accordion
    search: gr.Textbox
    suggest: gr.Button
    results: gr.CheckboxGroup
    add: gr.Button
    forget: gr.Button
    packing: PackingWidgets


def library_widgets(settings: Settings) -> LibraryWidgets:
    """The section, folded."""
    where = "on this machine" if settings.home else "in this session"
    with gr.Accordion("Your library", open=False, elem_id="library") as section:
        search = gr.Textbox(
            "",
            label="Search",
            info=f"Name, trigger words or a scene; searches all files that were added {where}.",
            placeholder="a cat on a sofa",
            max_lines=1,
        )
        suggest = gr.Button(
            "Suggest for the prompt", size="sm", variant="secondary", elem_id="suggest"
        )
        results = gr.CheckboxGroup([], label="Found", elem_id="found")
        with gr.Row():
            add = gr.Button("Add", size="sm", min_width=80)
            forget = gr.Button("Delete", size="sm", min_width=80)
        packing = _packing()
    return LibraryWidgets(section, search, suggest, results, add, forget, packing)


def _packing() -> PackingWidgets:
    keep = gr.Radio(
        list(KEEPS.items()),
        value=1.0,
        label="A pack keeps of each",
        info="Less makes it smaller; it says what each LoRA loses before it replaces anything.",
        elem_id="pack-keep",
    )
    with gr.Row():
        make = gr.Button(PACK, size="sm", min_width=120)
        take_out = gr.Button("Unpack", size="sm", min_width=80)
    with gr.Column(visible=False, elem_id="pack-offer") as group:
        question = gr.HTML()
        with gr.Row():
            accept = gr.Button("Replace the files", size="sm", min_width=80)
            decline = gr.Button("Leave them", size="sm", min_width=80)
    return PackingWidgets(keep, make, take_out, gr.State(None), group, question, accept, decline)

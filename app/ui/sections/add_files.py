"""The page's first step: examples, files, a pasted prompt, cards and the base model."""

from __future__ import annotations

from dataclasses import dataclass

import gradio as gr

from app.examples import Example
from app.settings.model import Settings
from app.ui.html import fragments as markup
from app.ui.html.rendering import render_template
from app.ui.sections.base_model import BaseChoice, base_choice
from app.ui.sections.lora_card import LoraCard, slot

FETCH = "Fetch"


@dataclass(frozen=True)
class LibraryWidgets:
    """What was added before."""

    section: gr.Accordion
    search: gr.Textbox
    found: gr.CheckboxGroup
    add: gr.Button
    forget: gr.Button


@dataclass(frozen=True)
class HubWidgets:
    """The way to files that lie on the Hub."""

    place: gr.Textbox
    fetch: gr.Button


@dataclass(frozen=True)
class AddFilesSection:
    """What is on it."""

    upload: gr.File
    hub: HubWidgets
    problems: gr.HTML
    slots: tuple[LoraCard, ...]
    conflicts: gr.HTML
    base: BaseChoice
    prompt: gr.Textbox  # as pasted
    paste: gr.Button
    pasted: gr.HTML
    library: LibraryWidgets


def example_buttons(shelf: tuple[Example, ...]) -> tuple[gr.Button, ...]:
    """One button for every bundled pair."""
    if not shelf:
        return ()
    with gr.Column(elem_id="examples", elem_classes="sheet"):
        gr.HTML(render_template("try"))
        with gr.Row():
            return tuple(
                gr.Button(f"Try it: {shown.title}", size="sm", min_width=130) for shown in shelf
            )


def add_section(settings: Settings) -> AddFilesSection:
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
        hub = _hub()
        library = _library(settings)
        problems = gr.HTML(visible=False)
        slots = tuple(slot() for _ in range(settings.max_files + settings.max_words))
        pasting = _pasting()
        conflicts = gr.HTML(visible=False, elem_id="conflicts")
        base = base_choice(settings)
    return AddFilesSection(upload, hub, problems, slots, conflicts, base, *pasting, library)


def _hub() -> HubWidgets:
    with gr.Row(elem_id="hub"):
        place = gr.Textbox(
            "",
            label="Or a LoRA on the Hugging Face Hub",
            placeholder="owner/name, or owner/name/file.safetensors",
            max_lines=1,
            min_width=180,
        )
        fetch = gr.Button(FETCH, size="md", scale=0, min_width=90)
    return HubWidgets(place, fetch)


def _library(settings: Settings) -> LibraryWidgets:
    stays = "on this machine" if settings.home else "in this visit"
    with gr.Accordion("Your library", open=False, elem_id="library") as section:
        search = gr.Textbox(
            "",
            label="Search",
            info=f"A name, a trigger, or the scene you have in mind; all that was added {stays}.",
            placeholder="a cat on a sofa",
            max_lines=1,
        )
        found = gr.CheckboxGroup([], label="Found", elem_id="found")
        with gr.Row():
            add = gr.Button("Add", size="sm", min_width=80)
            forget = gr.Button("Delete", size="sm", min_width=80)
    return LibraryWidgets(section, search, found, add, forget)


def _pasting() -> tuple[gr.Textbox, gr.Button, gr.HTML]:
    with gr.Accordion("Paste an A1111 prompt", open=False, elem_id="paste"):
        prompt = gr.Textbox(
            "",
            label="Prompt with <lora:name:strength>",
            placeholder="a cat and a pizza <lora:sks-cat:0.8:lbw=MIDD> <lora:vxz-pizza:0.6>",
            lines=2,
        )
        paste = gr.Button("Fill in strengths", size="sm")
        said = gr.HTML(visible=False)
    return prompt, paste, said

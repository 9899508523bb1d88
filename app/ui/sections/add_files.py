"""Step 1 of the page: examples, files, library, a pasted prompt, cards and the base model."""

from __future__ import annotations

from dataclasses import dataclass

import gradio as gr

from app.examples import Example
from app.settings.model import Settings
from app.ui.html import fragments as markup
from app.ui.html.rendering import render_template
from app.ui.sections.base_model import BaseChoice, base_model_widgets
from app.ui.sections.lora_card import LoraCard, lora_card_widgets

FETCH = "Fetch"


@dataclass(frozen=True)
class LibraryWidgets:
    """The library: files that were added before."""

    section: gr.Accordion
    search: gr.Textbox
    results: gr.CheckboxGroup
    add: gr.Button
    forget: gr.Button


@dataclass(frozen=True)
class HubDownload:
    """Files from the Hub."""

    source: gr.Textbox
    fetch: gr.Button


@dataclass(frozen=True)
class AddFilesSection:
    """The widgets of step 1."""

    upload: gr.File
    hub: HubDownload
    problems: gr.HTML
    slots: tuple[LoraCard, ...]
    conflicts: gr.HTML
    base: BaseChoice
    prompt: gr.Textbox  # of A1111, pasted
    paste: gr.Button
    paste_message: gr.HTML
    library: LibraryWidgets


def example_buttons(examples: tuple[Example, ...]) -> tuple[gr.Button, ...]:
    """One button for every bundled pair of LoRAs."""
    if not examples:
        return ()
    with gr.Column(elem_id="examples", elem_classes="sheet"):
        gr.HTML(render_template("try"))
        with gr.Row():
            return tuple(
                gr.Button(f"Try it: {example.title}", size="sm", min_width=130)
                for example in examples
            )


def add_section(settings: Settings) -> AddFilesSection:
    """The section, with hidden cards for as many files as a merge may have."""
    with gr.Column(elem_classes="sheet"):
        gr.HTML(markup.heading(1, "Add LoRAs", "Two or more, trained for the same base model."))
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
        slots = tuple(lora_card_widgets() for _ in range(settings.max_files + settings.max_words))
        prompt_widgets = _a1111_prompt()
        conflicts = gr.HTML(visible=False, elem_id="conflicts")
        base = base_model_widgets(settings)
    return AddFilesSection(upload, hub, problems, slots, conflicts, base, *prompt_widgets, library)


def _hub() -> HubDownload:
    with gr.Row(elem_id="hub"):
        source = gr.Textbox(
            "",
            label="Or a LoRA on the Hugging Face Hub",
            placeholder="owner/name, or owner/name/file.safetensors",
            max_lines=1,
            min_width=180,
        )
        fetch = gr.Button(FETCH, size="md", scale=0, min_width=90)
    return HubDownload(source, fetch)


def _library(settings: Settings) -> LibraryWidgets:
    where = "on this machine" if settings.home else "in this session"
    with gr.Accordion("Your library", open=False, elem_id="library") as section:
        search = gr.Textbox(
            "",
            label="Search",
            info=f"Name, trigger words or a scene; searches all files that were added {where}.",
            placeholder="a cat on a sofa",
            max_lines=1,
        )
        results = gr.CheckboxGroup([], label="Found", elem_id="found")
        with gr.Row():
            add = gr.Button("Add", size="sm", min_width=80)
            forget = gr.Button("Delete", size="sm", min_width=80)
    return LibraryWidgets(section, search, results, add, forget)


def _a1111_prompt() -> tuple[gr.Textbox, gr.Button, gr.HTML]:
    with gr.Accordion("Paste an A1111 prompt", open=False, elem_id="paste"):
        prompt = gr.Textbox(
            "",
            label="Prompt with <lora:name:strength>",
            placeholder="a cat and a pizza <lora:sks-cat:0.8:lbw=MIDD> <lora:vxz-pizza:0.6>",
            lines=2,
        )
        paste = gr.Button("Fill in strengths", size="sm")
        message = gr.HTML(visible=False)
    return prompt, paste, message

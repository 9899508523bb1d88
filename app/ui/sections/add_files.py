"""Where files come in: one drop for everything, names on the Hub, the library, a pasted prompt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from app.schemas.pack import OpenedPack
from app.settings.model import Settings
from app.ui.common import Updates
from app.ui.html.rendering import render_template
from app.ui.sections.library import LibraryWidgets, library_widgets
from app.ui.sections.lora_drawer import LoraDrawer, drawer_widgets
from app.ui.sections.lora_row import LoraRow, lora_row_widgets

FETCH = "Fetch"
LEAST_LOSS = 1e-3  # of a LoRA in a pack; less is the rounding of half precision


@dataclass(frozen=True)
class HubDownload:
    """Files from the Hub."""

    source: gr.Textbox
    fetch: gr.Button


@dataclass(frozen=True)
class PackWidgets:
    """What is in a pack that was dropped, to choose from."""

    pack: gr.State  # an OpenedPack, or None
    group: gr.Column
    members: gr.CheckboxGroup
    add: gr.Button

    @property
    def outputs(self) -> set[Any]:
        """All of them."""
        return {self.pack, self.group, self.members}

    def offer(self, pack: OpenedPack) -> Updates:
        """Show the LoRAs of a pack."""
        choices = [
            (f"{name} · loses {error:.1%}" if error >= LEAST_LOSS else name, name)
            for name, error in pack.members
        ]
        label = f"In {pack.name}: {len(choices)} LoRAs"
        return {
            self.pack: pack,
            self.group: gr.Column(visible=True),
            self.members: gr.CheckboxGroup(choices, value=[], label=label),
        }


@dataclass(frozen=True)
class AddFilesSection:
    """The widgets through which files come in, and the rows that they become."""

    upload: gr.File
    hub: HubDownload
    packs: PackWidgets
    problems: gr.HTML
    rows: tuple[LoraRow, ...]
    drawer: LoraDrawer
    unify: gr.Button  # keep the LoRAs of one base model
    conflicts: gr.HTML


@dataclass(frozen=True)
class OtherSources:
    """Where LoRAs and strengths may come from, too."""

    prompt: gr.Textbox  # of A1111, pasted
    paste: gr.Button
    paste_message: gr.HTML
    library: LibraryWidgets


def add_section(settings: Settings) -> AddFilesSection:
    """Hidden rows for as many files as a merge may have, and the drop below them."""
    with gr.Column(elem_id="rows"):
        rows = tuple(lora_row_widgets() for _ in range(settings.max_files + settings.max_words))
        drawer = drawer_widgets()
        problems = gr.HTML(visible=False, elem_id="problems")
        unify = gr.Button("", visible=False, size="sm", elem_id="unify")
    with gr.Column(elem_id="add"):
        gr.HTML(render_template("drop"), elem_id="drop-words")
        upload = gr.File(
            file_count="multiple",
            label="LoRAs and pictures made here",
            show_label=False,
            elem_id="upload",
        )
        hub = _hub()
        packs = _packs()
    conflicts = gr.HTML(visible=False, elem_id="conflicts")
    return AddFilesSection(upload, hub, packs, problems, rows, drawer, unify, conflicts)


def other_sources(settings: Settings) -> OtherSources:
    """The library and the pasted prompt, in folds."""
    with gr.Column(elem_id="sources"):
        library = library_widgets(settings)
        return OtherSources(*_a1111_prompt(), library)


def _hub() -> HubDownload:
    with gr.Row(elem_id="hub"):
        source = gr.Textbox(
            "",
            label="A LoRA on the Hugging Face Hub",
            show_label=False,
            placeholder="or paste a Hub name: owner/name",
            max_lines=1,
            min_width=120,
            container=False,
        )
        fetch = gr.Button(FETCH, size="md", scale=0, min_width=80)
    return HubDownload(source, fetch)


def _packs() -> PackWidgets:
    with gr.Column(visible=False, elem_id="pack") as group:
        members = gr.CheckboxGroup([], label="In the pack", elem_id="members")
        add = gr.Button("Add these", size="sm", min_width=80)
    return PackWidgets(gr.State(None), group, members, add)


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

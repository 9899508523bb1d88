"""Take it: the quick downloads, the files made to measure, and the way to the Hub."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, get_args

import gradio as gr

from app.schemas.export import FORMS, Export, ExportOrder
from app.schemas.merge import FinishedMerge
from app.shell_commands import merge_command, take_commands
from app.ui.common import Updates
from app.ui.html import fragments as markup
from app.ui.sections.hub import Hub, hub_section
from app.ui.sections.pictures import as_command
from merging.options import Dtype

AS_MERGED = ("as merged", "exact")


@dataclass(frozen=True)
class Files:
    """The widgets of a finished merge."""

    empty: gr.HTML  # in the files' place
    ready: gr.Column
    summary: gr.HTML
    kohya: gr.DownloadButton
    diffusers: gr.DownloadButton
    full: gr.DownloadButton  # of a merge that the others do not hold, or not as small
    words: gr.File  # textual inversions that the merge needs
    recipe: gr.Code
    command: gr.Code
    pushed: gr.HTML
    form: gr.Radio
    rank: gr.Dropdown
    curve: gr.HTML
    file: gr.DownloadButton
    archive: gr.DownloadButton
    said: gr.HTML

    def merged(self, found: FinishedMerge) -> Updates:
        """The adapter, ready to be taken home; what was made of the last one is gone."""
        return {
            self.empty: gr.HTML(visible=False),
            self.ready: gr.Column(visible=True),
            self.summary: markup.summary(found),
            self.kohya: gr.DownloadButton(value=str(found.kohya)),
            self.diffusers: gr.DownloadButton(value=str(found.diffusers)),
            self.full: gr.DownloadButton(
                value=str(found.full) if found.full else None, visible=bool(found.full)
            ),
            self.form: "full" if found.full else "kohya",
            self.words: gr.File(
                value=[str(path) for path in found.words] or None, visible=bool(found.words)
            ),
            self.recipe: json.dumps(found.recipe, indent=2, ensure_ascii=False),
            self.command: merge_command(
                found.order, found.drawn_with.name, "full" if found.shifts else "kohya"
            ),
            self.rank: gr.Dropdown([AS_MERGED], value="exact"),
            self.curve: "",
            self.file: gr.DownloadButton(visible=False),
            self.archive: gr.DownloadButton(visible=False),
            self.said: "",
            self.pushed: "",
        }

    def taken(self, order: ExportOrder, made: Export) -> Updates:
        """Files made to measure."""
        return {
            self.command: take_commands(order, made.file.name),
            self.file: gr.DownloadButton(value=str(made.file), visible=True),
            self.archive: gr.DownloadButton(value=str(made.archive), visible=True),
            self.said: markup.messages([f"{made.file.name}, {made.sentence}."]),
        }

    @property
    def outputs(self) -> set[Any]:
        return set(vars(self).values())


@dataclass(frozen=True)
class ExportWidgets:
    """What the visitor fills in here."""

    hub: Hub
    name: gr.Textbox
    dtype: gr.Radio
    opened: gr.Accordion
    make: gr.Button


def export_section(login: bool = False) -> tuple[Files, ExportWidgets]:
    """The fourth step of the page."""
    with gr.Column(elem_classes="sheet", elem_id="take"):
        gr.HTML(markup.heading(4, "Take it", "One file that loads like any other LoRA."))
        empty = gr.HTML(markup.paragraph("nothing", "The merged adapter appears here."))
        with gr.Column(visible=False, elem_id="download") as ready:
            summary = gr.HTML(elem_id="summary")
            with gr.Row():
                kohya = gr.DownloadButton(
                    "A1111 · Forge · ComfyUI · InvokeAI", variant="primary", size="md", scale=3
                )
                diffusers = gr.DownloadButton("diffusers · PEFT", size="md", scale=2)
            full = gr.DownloadButton(
                "All of it, every change whole: A1111 · Forge · ComfyUI · InvokeAI",
                visible=False,
                size="md",
                elem_id="full",
            )
            words = gr.File(
                label="Words that it needs: textual inversions, a file each",
                file_count="multiple",
                interactive=False,
                visible=False,
                elem_id="words",
            )
            measures, made = _to_measure()
            hub = hub_section(login)
            with gr.Accordion("Recipe (it is also inside the file)", open=False):
                recipe = gr.Code(
                    language="json", interactive=False, wrap_lines=True, label="recipe.json"
                )
            command = as_command("The merge as a command")
    files = Files(
        *(empty, ready, summary, kohya, diffusers, full, words, recipe, command, hub.pushed), *made
    )
    return files, ExportWidgets(hub, *measures)


def _to_measure() -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """Name, format, precision and rank, and the buttons for what was made."""
    with gr.Accordion("Smaller, other precision, or all in one zip", open=False) as opened:
        curve = gr.HTML(elem_id="curve")
        rank = gr.Dropdown(
            [AS_MERGED],
            value="exact",
            label="Rank of the file",
            info="Smaller loses the least important directions of every layer.",
        )
        with gr.Row():
            form = gr.Radio(
                [(f"{name}: {who}", name) for name, who in FORMS.items()],
                value="kohya",
                label="Format",
                info="Only the full one has a place for biases and normalisations.",
            )
            dtype = gr.Radio(list(get_args(Dtype)), value="fp16", label="Precision")
        name = gr.Textbox("", label="File name", placeholder="Empty: one that explains itself.")
        make = gr.Button("Make the files", elem_id="make")
        said = gr.HTML(elem_id="made")
        with gr.Row():
            file = gr.DownloadButton("The file", visible=False, size="md")
            archive = gr.DownloadButton("Zip of all", visible=False, size="md")
    return (name, dtype, opened, make), (form, rank, curve, file, archive, said)

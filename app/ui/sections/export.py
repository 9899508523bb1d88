"""Take it: the download first; other files, the Hub upload, recipe and command behind folds."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, cast, get_args

import gradio as gr

from app.schemas.export import FORMS, Export, ExportOrder
from app.schemas.merge import FinishedMerge
from app.shell_commands import merge_command, take_commands
from app.ui.common import Updates
from app.ui.html import fragments as markup
from app.ui.html.error_chart import error_chart
from app.ui.sections.hub import HubUpload, hub_section
from app.ui.sections.pictures import command_code
from merging.base_models import MINI
from merging.options import Dtype
from merging.report import LayerData

AS_MERGED = ("as merged", "exact")


@dataclass(frozen=True)
class Files:
    """The widgets of a finished merge."""

    ready: gr.Column
    summary: gr.HTML
    kohya: gr.DownloadButton
    diffusers: gr.DownloadButton
    full: gr.DownloadButton  # if the other formats cannot hold the merge, or not as small
    words: gr.File  # textual inversions
    recipe: gr.Code
    command: gr.Code
    pushed: gr.HTML
    chart: gr.HTML  # errors of the layers
    form: gr.Radio
    rank: gr.Dropdown
    curve: gr.HTML
    file: gr.DownloadButton
    archive: gr.DownloadButton
    message: gr.HTML

    def show_merge(self, merged: FinishedMerge) -> Updates:
        """Show the downloads of a merge, and clear what belongs to the last one."""
        layers = cast(list[LayerData], merged.report.get("layers", []))
        return {
            self.ready: gr.Column(visible=True),
            self.summary: markup.summary(merged),
            self.kohya: gr.DownloadButton(_download_label(merged), value=str(merged.kohya)),
            self.diffusers: gr.DownloadButton(value=str(merged.diffusers)),
            self.full: gr.DownloadButton(
                value=str(merged.full) if merged.full else None, visible=bool(merged.full)
            ),
            self.form: "full" if merged.full else "kohya",
            self.words: gr.File(
                value=[str(path) for path in merged.words] or None, visible=bool(merged.words)
            ),
            self.recipe: json.dumps(merged.recipe, indent=2, ensure_ascii=False),
            self.command: merge_command(
                merged.order, merged.drawn_with.name, "full" if merged.shifts else "kohya"
            ),
            self.rank: gr.Dropdown([AS_MERGED], value="exact"),
            self.curve: "",
            self.file: gr.DownloadButton(visible=False),
            self.archive: gr.DownloadButton(visible=False),
            self.message: "",
            self.pushed: "",
            self.chart: error_chart(layers),
        }

    def show_export(self, order: ExportOrder, export: Export) -> Updates:
        """Show the files of an export, with its commands."""
        return {
            self.command: take_commands(order, export.file.name),
            # of SHiRA the file is of no use without what the zip has beside it
            self.file: gr.DownloadButton(value=str(export.file), visible=order.form != "shira"),
            self.archive: gr.DownloadButton(value=str(export.archive), visible=True),
            self.message: markup.messages([f"{export.file.name}, {export.sentence}."]),
        }

    @property
    def outputs(self) -> set[Any]:
        return set(vars(self).values())


@dataclass(frozen=True)
class ExportWidgets:
    """The inputs for other files."""

    hub: HubUpload
    name: gr.Textbox
    dtype: gr.Radio
    section: gr.Accordion
    make: gr.Button


def export_section(login: bool = False) -> tuple[Files, ExportWidgets]:
    """The section, hidden until there is a merge."""
    with gr.Column(visible=False, elem_id="take") as ready:
        with gr.Row(elem_id="download"):
            kohya = gr.DownloadButton("Download LoRA", variant="primary", scale=0, min_width=230)
            summary = gr.HTML(elem_id="summary")
        full = gr.DownloadButton(
            "Complete, with whole matrices: A1111 · Forge · ComfyUI · InvokeAI",
            visible=False,
            size="md",
            elem_id="full",
        )
        words = gr.File(
            label="Textual inversions that the merge needs",
            file_count="multiple",
            interactive=False,
            visible=False,
            elem_id="words",
        )
        with gr.Accordion("Other files, the Hub, recipe and command", open=False, elem_id="more"):
            diffusers = gr.DownloadButton("Download for diffusers · PEFT", size="md")
            export_inputs, export_outputs = _custom_file()
            hub = hub_section(login)
            with gr.Accordion("Recipe (it is also inside the file)", open=False):
                recipe = gr.Code(
                    language="json", interactive=False, wrap_lines=True, label="recipe.json"
                )
            command = command_code("The merge as a command")
            with gr.Accordion("Error of each layer", open=False):
                chart = gr.HTML(elem_id="chart")
    files = Files(
        *(ready, summary, kohya, diffusers, full, words, recipe, command, hub.pushed, chart),
        *export_outputs,
    )
    return files, ExportWidgets(hub, *export_inputs)


def _download_label(merged: FinishedMerge) -> str:
    """The button's label, with the size; a file for the embedded base fits no program."""
    kind = "demo LoRA" if merged.order.base == MINI.name else "LoRA"
    return f"Download {kind} ({markup.megabytes(merged.kohya.stat().st_size / 2**20)})"


def _custom_file() -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """Inputs for name, format, precision and rank; widgets for the resulting files."""
    with gr.Accordion("Smaller, other precision, or all in one zip", open=False) as section:
        curve = gr.HTML(elem_id="curve")
        rank = gr.Dropdown(
            [AS_MERGED],
            value="exact",
            label="Rank of the file",
            info="A smaller rank drops the least important directions of every layer.",
        )
        with gr.Row():
            form = gr.Radio(
                [(f"{name}: {programs}", name) for name, programs in FORMS.items()],
                value="kohya",
                label="Format",
                info="Only full can hold biases and norms.",
            )
            dtype = gr.Radio(list(get_args(Dtype)), value="fp16", label="Precision")
        name = gr.Textbox(
            "", label="File name", placeholder="Empty: made from method and LoRA names."
        )
        make = gr.Button("Make the files", elem_id="make")
        message = gr.HTML(elem_id="made")
        with gr.Row():
            file = gr.DownloadButton("The file", visible=False, size="md")
            archive = gr.DownloadButton("Zip of all", visible=False, size="md")
    return (name, dtype, section, make), (form, rank, curve, file, archive, message)

"""Widgets for several merges at once."""

from __future__ import annotations

from dataclasses import dataclass

import gradio as gr

from app.ui.common import CHOICES
from app.ui.sections.pictures import command_code
from merging.methods import METHODS
from merging.options import MergeOptions


@dataclass(frozen=True)
class BatchSection:
    """The widgets of a batch."""

    section: gr.Accordion
    methods: gr.CheckboxGroup
    strengths: gr.Textbox
    count: gr.HTML
    draw: gr.Checkbox  # whether every merge is drawn, as a matrix
    make: gr.Button
    matrix: gr.HTML
    table: gr.HTML
    archive: gr.DownloadButton
    command: gr.Code


def batch_section() -> BatchSection:
    """The section, folded, under the Merge button."""
    with gr.Accordion("Several at once", open=False, elem_id="several") as section:
        methods = gr.CheckboxGroup(
            [(method.title, name) for name, method in METHODS.items()],
            value=[MergeOptions.method],
            label="Methods to try",
        )
        strengths = gr.Textbox(
            "",
            label="Strengths to try",
            info="One line per LoRA; every combination is merged, with the settings above.",
            placeholder="sks-cat: 0.6, 0.8, 1",
            lines=2,
            max_lines=8,
        )
        count = gr.HTML(elem_id="batch-count")
        draw = gr.Checkbox(
            False,
            label="Draw them as a matrix",
            info="Every merge with the first prompt and seed of the pictures, side by side.",
            elem_id="batch-draw",
        )
        make = gr.Button("Make them all", size="md", elem_id="batch")
        matrix = gr.HTML(visible=False, elem_id="matrix", js_on_load=CHOICES)
        table = gr.HTML(elem_id="batch-table")
        archive = gr.DownloadButton("Download the batch", visible=False, size="md")
        command = command_code("The batch as a command")
    return BatchSection(
        section, methods, strengths, count, draw, make, matrix, table, archive, command
    )

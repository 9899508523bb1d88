"""Widgets for a search for strengths."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from app.schemas.tuning import BUDGET, JUDGES, TuneOrder
from app.settings.model import Settings
from app.ui.sections.pictures import command_code


@dataclass(frozen=True)
class TuningSection:
    """The widgets of a search."""

    judge: gr.Radio
    budget: gr.Slider
    find: gr.Button
    outcome: gr.HTML  # what it found, and its picture
    use: gr.Button  # the found strengths, in the rows
    command: gr.Code
    result: gr.State  # a TuneResult, or None

    @property
    def outputs(self) -> set[Any]:
        """What a search changes."""
        return {self.outcome, self.use, self.command, self.result}


def tuning_section(settings: Settings) -> TuningSection:
    """The section, folded."""
    with gr.Accordion("Find strengths", open=False, elem_id="tuning"):
        judge = gr.Radio(
            [(title, name) for name, title in JUDGES.items()],
            value=TuneOrder.judge,
            label="Judged by",
            elem_id="tuning-judge",
        )
        budget = gr.Slider(
            1,
            settings.max_batch,
            min(BUDGET, settings.max_batch),
            step=1,
            label="Merges to try",
            info="With the method and settings above; as many random strengths are tried beside.",
        )
        find = gr.Button("Find strengths", size="md", elem_id="tune")
        outcome = gr.HTML(elem_id="tuned")
        use = gr.Button("Use these strengths", visible=False, size="md", elem_id="use-tuned")
        command = command_code("The search as a command")
    return TuningSection(judge, budget, find, outcome, use, command, gr.State(None))

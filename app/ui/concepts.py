"""One LoRA's place on the page: its card, its words, its strengths."""

from __future__ import annotations

from dataclasses import dataclass

import gradio as gr

from app.cards import Card
from app.orders import Pick
from app.ui.basics import Updates
from app.ui.card import card


@dataclass(frozen=True)
class Slot:
    """The widgets of one LoRA; there are as many as a merge may have, most of them hidden."""

    group: gr.Column
    info: gr.HTML
    trigger: gr.Textbox
    strength: gr.Slider
    remove: gr.Button

    def show(self, found: Card, base: str, pick: Pick) -> Updates:
        """The widgets filled for a file."""
        return {
            self.group: gr.Column(visible=True),
            self.info: card(found, base),
            self.trigger: pick.trigger,
            self.strength: pick.strength,
        }

    def hide(self) -> Updates:
        """The widgets of an empty place."""
        return {self.group: gr.Column(visible=False), self.trigger: "", self.strength: 1.0}


def slot() -> Slot:
    """One LoRA's place on the page."""
    with gr.Column(visible=False, elem_classes="slot") as group:
        info = gr.HTML()
        with gr.Row(equal_height=True):
            trigger = gr.Textbox(
                "", label="Trigger words", placeholder="e.g. sks cat", max_lines=1, min_width=140
            )
            strength = gr.Slider(-2, 2, 1, step=0.05, label="Strength", min_width=180)
        remove = gr.Button("Remove", size="sm", elem_classes="remove")
    return Slot(group, info, trigger, strength, remove)

"""A row of the list: a LoRA's picture, name, trigger and strength, and a button for the rest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from app.schemas.card import Card
from app.schemas.merge import SelectedFile
from app.ui.common import Updates
from app.ui.html.lora_card import row_html

MORE = "More about this LoRA"
MOST_STRENGTH = 2.0


@dataclass(frozen=True)
class LoraRow:
    """The widgets of one row. The page has as many as a merge may have LoRAs; unused are hidden."""

    group: gr.Column
    info: gr.HTML
    strength: gr.Slider
    more: gr.Button  # opens and closes the drawer

    @property
    def widgets(self) -> set[Any]:
        """All widgets."""
        return set(vars(self).values())

    def show(self, card: Card, base: str, pick: SelectedFile, opened: bool) -> Updates:
        """The row filled in for a file; ``opened`` if the drawer is about it."""
        return {
            **self.mark(pick.on, opened),
            self.info: row_html(card, base, pick.trigger),
            self.strength: gr.Slider(value=pick.strength, visible=not pick.is_word),
        }

    def mark(self, on: bool, opened: bool) -> Updates:
        """Whether the LoRA is switched on, and whether the drawer is about it."""
        return {self.group: gr.Column(visible=True, elem_classes=_classes(on, opened))}

    def hide(self) -> Updates:
        """The row, hidden and emptied."""
        return {self.group: gr.Column(visible=False), self.strength: 1.0}


def lora_row_widgets() -> LoraRow:
    """One row, hidden."""
    with gr.Column(visible=False, elem_classes=_classes(on=True, opened=False)) as group:
        info = gr.HTML(elem_classes="row")
        strength = gr.Slider(
            -MOST_STRENGTH,
            MOST_STRENGTH,
            1,
            step=0.05,
            label="Strength",
            elem_classes="strength",
            min_width=0,
        )
        more = gr.Button(MORE, elem_classes="more", scale=0, min_width=0)
    return LoraRow(group, info, strength, more)


def _classes(on: bool, opened: bool) -> list[str]:
    return ["slot", *(["opened"] if opened else []), *([] if on else ["off"])]

"""One LoRA: a row with its name, trigger and strength, and a drawer with everything else."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import gradio as gr

from app.schemas.card import Card
from app.schemas.merge import SelectedFile
from app.ui.common import AT_ONCE, Updates, Values
from app.ui.html.lora_card import facts_html, row_html
from merging.block_weights import LISTS, PRESETS
from merging.calibration.prompts import concept_prompts
from merging.io.files import PICTURE_ENDINGS

ALL_BLOCKS = "every block alike"
WRITE_OUT, CAPTIONS = "Write the templates out", "Use the file's captions"


@dataclass(frozen=True)
class LoraCard:
    """The widgets of one LoRA. The page has as many as a merge may have; unused ones are hidden."""

    group: gr.Column
    info: gr.HTML
    strength: gr.Slider
    references: gr.File  # rendered below the pictures
    more: gr.Accordion  # the drawer
    trigger: gr.Dropdown
    on: gr.Checkbox
    up: gr.Button
    down: gr.Button
    remove: gr.Button
    parts_and_blocks: gr.Column
    separate: gr.Checkbox
    parts: gr.Row
    text_encoder: gr.Slider
    unet: gr.Slider
    blocks: gr.Dropdown
    prompts: gr.Textbox
    write_out: gr.Button
    captions: gr.Button
    facts: gr.HTML

    @property
    def settings(self) -> tuple[Any, ...]:
        """The widgets that set how the LoRA is used."""
        return (
            self.on,
            self.trigger,
            self.strength,
            self.separate,
            self.text_encoder,
            self.unet,
            self.blocks,
            self.prompts,
            self.references,
        )

    @property
    def strength_events(self) -> tuple[Any, ...]:
        """The events of changed strengths."""
        sliders = (self.strength, self.text_encoder, self.unet)
        ends = tuple(slider.release for slider in sliders)
        return (*ends, self.on.input, self.separate.input, self.blocks.input)

    @property
    def widgets(self) -> set[Any]:
        """All widgets."""
        return {getattr(self, field.name) for field in fields(self)}

    def pick(self, card: Card, values: Values) -> SelectedFile:
        """The file with the settings of the widgets."""
        separate = bool(values[self.separate])
        blocks = str(values[self.blocks] or "")
        return SelectedFile(
            path=card.path,
            name=card.name,
            strength=float(values[self.strength]),
            trigger=str(values[self.trigger] or "").strip(),
            text_encoder=float(values[self.text_encoder]) if separate else None,
            unet=float(values[self.unet]) if separate else None,
            blocks="" if blocks == ALL_BLOCKS else blocks.strip(),
            prompts=nonempty_lines(values[self.prompts]),
            on=bool(values[self.on]),
            is_word=card.is_word,
            origin=card.origin,
            references=tuple(map(Path, values[self.references] or ())),
        )

    def show(self, card: Card, base: str, pick: SelectedFile) -> Updates:
        """The widgets filled in for a file."""
        separate = pick.text_encoder is not None or pick.unet is not None
        lora = not pick.is_word
        parts = (pick.text_encoder, pick.unet)
        te, unet = (pick.strength if value is None else value for value in parts)
        return {
            self.group: gr.Column(visible=True, elem_classes=_classes(pick.on)),
            self.info: row_html(card, base, pick.trigger),
            self.facts: facts_html(card),
            self.on: pick.on,
            self.trigger: gr.Dropdown(
                choices=list(card.words),
                value=pick.trigger,
                label="Trigger words" if lora else "Its word in prompts",
                visible=lora or len(card.embeddings) == 1,
            ),
            self.strength: gr.Slider(value=pick.strength, visible=lora),
            self.parts_and_blocks: gr.Column(visible=lora),
            self.separate: separate,
            self.parts: gr.Row(visible=separate),
            self.text_encoder: te,
            self.unet: unet,
            self.blocks: pick.blocks or ALL_BLOCKS,
            self.prompts: gr.Textbox(
                "\n".join(pick.prompts), placeholder=_templates(pick.trigger or card.trigger)
            ),
            self.captions: gr.Button(visible=bool(card.captions)),
            self.references: gr.File(
                value=[str(path) for path in pick.references if path.is_file()] or None,
                label=f"Pictures of {pick.trigger or card.name}",
                visible=lora,
            ),
        }

    def move_buttons(self, place: int, count: int) -> Updates:
        """Up and Down, switched off at the ends of a list of ``count`` cards."""
        return {
            self.up: gr.Button(interactive=place > 0),
            self.down: gr.Button(interactive=place < count - 1),
        }

    def hide(self) -> Updates:
        """The widgets, hidden and emptied."""
        return {
            self.group: gr.Column(visible=False),
            self.more: gr.Accordion(open=False),
            self.trigger: "",
            self.strength: 1.0,
            self.references: gr.File(value=None, visible=False),
        }


def nonempty_lines(text: str | None) -> tuple[str, ...]:
    """The lines that are not empty, stripped."""
    return tuple(line.strip() for line in (text or "").splitlines() if line.strip())


def lora_card_widgets() -> LoraCard:
    """One row with its drawer, hidden."""
    with gr.Column(visible=False, elem_classes=_classes(True)) as group:
        info = gr.HTML(elem_classes="row")
        strength = gr.Slider(
            -2, 2, 1, step=0.05, label="Strength", elem_classes="strength", min_width=0
        )
        with gr.Accordion("More about this LoRA", open=False, elem_classes="more") as more:
            trigger = gr.Dropdown(
                [], value="", allow_custom_value=True, label="Trigger words", min_width=140
            )
            tools = _tools()
            with gr.Column() as parts_and_blocks:
                advanced = _parts_and_blocks()
            facts = gr.HTML()
    on = tools[0]
    on.input(lambda on: gr.Column(elem_classes=_classes(on)), on, group, **AT_ONCE)
    row = (group, info, strength, _references(), more)
    return LoraCard(*row, trigger, *tools, parts_and_blocks, *(*advanced, facts))


def _tools() -> tuple[gr.Checkbox, gr.Button, gr.Button, gr.Button]:
    with gr.Row(elem_classes="tools"):
        on = gr.Checkbox(True, label="Use", container=False, min_width=60)
        up, down, remove = (
            gr.Button(label, size="sm", scale=0, min_width=0) for label in ("Up", "Down", "Remove")
        )
    return on, up, down, remove


def _parts_and_blocks() -> tuple[Any, ...]:
    """Rarely used settings: strengths of parts and blocks, and calibration prompts."""
    separate = gr.Checkbox(
        False,
        label="Text encoder and UNet apart",
        info="Separate strengths instead of one.",
    )
    with gr.Row(visible=False) as parts:
        te, unet = (
            gr.Slider(-2, 2, 1, step=0.05, label=label, min_width=150)
            for label in ("Text encoder", "UNet")
        )
    blocks = gr.Dropdown(
        [ALL_BLOCKS, *PRESETS],
        value=ALL_BLOCKS,
        allow_custom_value=True,
        label="Block weights",
        info=f"A preset, or {_counts()} numbers with commas; they multiply the strength.",
    )
    prompts = gr.Textbox(
        "",
        label="Calibration prompts",
        info="One per line. Empty: sentences like these are made from the trigger words.",
        lines=3,
        max_lines=8,
    )
    with gr.Row():
        write_out, captions = (
            gr.Button(label, size="sm", min_width=120) for label in (WRITE_OUT, CAPTIONS)
        )
    separate.input(lambda checked: gr.Row(visible=checked), separate, parts, **AT_ONCE)
    return separate, parts, te, unet, blocks, prompts, write_out, captions


def _references() -> gr.File:
    """Created with the row, but rendered below the pictures."""
    return gr.File(
        file_count="multiple",
        file_types=list(PICTURE_ENDINGS),
        label="Pictures",
        height=140,
        visible=False,
        render=False,
        elem_classes="references",
    )


def _counts() -> str:
    *most, last = map(str, sorted(LISTS))
    return f"{', '.join(most)} or {last}"


def _templates(trigger: str) -> str:
    """A few of the sentences that are used if no prompts are typed."""
    return "\n".join(concept_prompts(trigger, 3, seed=0)) if trigger else ""


def _classes(on: bool) -> list[str]:
    return ["slot"] if on else ["slot", "off"]

"""The drawer: all about one LoRA that its row does not show. The page has one for all rows."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import gradio as gr

from app.schemas.card import Card
from app.schemas.merge import SelectedFile
from app.ui.common import AT_ONCE, Updates, Values
from app.ui.html.fragments import paragraph
from app.ui.html.lora_card import facts_html
from merging.block_weights import LISTS, PRESETS
from merging.calibration.prompts import concept_prompts
from merging.io.files import PICTURE_ENDINGS

ALL_BLOCKS = "every block alike"
WRITE_OUT, CAPTIONS = "Write the templates out", "Use the file's captions"
CLOSED = -1  # the place in the list that no LoRA has
REFERENCES_NOTE = (
    "Drop a few real pictures of it: all further pictures get a score of how similar they are. "
    "Nothing is trained on them."
)


@dataclass(frozen=True)
class LoraDrawer:
    """The widgets of the drawer."""

    group: gr.Column
    title: gr.HTML
    # In the browser, not on the server: so it always belongs to the values of the other widgets.
    place: gr.Number  # of the LoRA in the list, counted from 0; CLOSED without any
    close: gr.Button
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
    references: gr.File
    facts: gr.HTML

    @property
    def settings(self) -> tuple[Any, ...]:
        """The widgets that set how the LoRA is used."""
        return (
            self.on,
            self.trigger,
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
        ends = (self.text_encoder.release, self.unet.release)
        return (*ends, self.on.input, self.separate.input, self.blocks.input)

    @property
    def widgets(self) -> set[Any]:
        """All widgets."""
        return {getattr(self, field.name) for field in fields(self)}

    def pick(self, pick: SelectedFile, values: Values) -> SelectedFile:
        """The file with the settings of the widgets."""
        separate = bool(values[self.separate])
        blocks = str(values[self.blocks] or "")
        return replace(
            pick,
            trigger=str(values[self.trigger] or "").strip(),
            text_encoder=float(values[self.text_encoder]) if separate else None,
            unet=float(values[self.unet]) if separate else None,
            blocks="" if blocks == ALL_BLOCKS else blocks.strip(),
            prompts=nonempty_lines(values[self.prompts]),
            on=bool(values[self.on]),
            references=tuple(map(Path, values[self.references] or ())),
        )

    def show(self, cards: list[Card], picks: tuple[SelectedFile, ...], place: int) -> Updates:
        """The drawer, open and filled in for the LoRA at a place of the list, or CLOSED."""
        if place == CLOSED:
            return {self.group: gr.Column(visible=False), self.place: CLOSED}
        card, pick = cards[place], picks[place]
        return {
            self.group: gr.Column(visible=True),
            self.place: place,
            self.title: paragraph("drawer-title", card.name),
            self.facts: facts_html(card),
            **self._settings(card, pick),
            self.up: gr.Button(interactive=place > 0),
            self.down: gr.Button(interactive=place < len(cards) - 1),
        }

    def _settings(self, card: Card, pick: SelectedFile) -> Updates:
        separate = pick.text_encoder is not None or pick.unet is not None
        lora = not pick.is_word
        parts = (pick.text_encoder, pick.unet)
        te, unet = (pick.strength if value is None else value for value in parts)
        return {
            self.on: pick.on,
            self.trigger: gr.Dropdown(
                choices=list(card.words),
                value=pick.trigger,
                label="Trigger words" if lora else "Its word in prompts",
                visible=lora or len(card.embeddings) == 1,
            ),
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
            ),
        }


def nonempty_lines(text: str | None) -> tuple[str, ...]:
    """The lines that are not empty, stripped."""
    return tuple(line.strip() for line in (text or "").splitlines() if line.strip())


def drawer_widgets() -> LoraDrawer:
    """The drawer, closed."""
    with gr.Column(visible=False, elem_id="drawer") as group:
        place = gr.Number(CLOSED, precision=0, visible="hidden", label="Place in the list")
        with gr.Row(elem_classes="head"):
            title = gr.HTML()
            close = gr.Button("Close", size="sm", scale=0, min_width=0)
        trigger = gr.Dropdown(
            [], value="", allow_custom_value=True, label="Trigger words", min_width=140
        )
        tools = _tools()
        with gr.Column() as parts_and_blocks:
            advanced = _parts_and_blocks()
            references = _references()
        facts = gr.HTML()
    head = (group, title, place, close, trigger)
    return LoraDrawer(*head, *tools, parts_and_blocks, *(*advanced, references, facts))


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
    """Real pictures of the concept, which pictures drawn later are compared with."""
    with gr.Accordion("Scores from your own pictures", open=False):
        gr.HTML(paragraph("about", REFERENCES_NOTE))
        return gr.File(
            file_count="multiple",
            file_types=list(PICTURE_ENDINGS),
            label="Pictures",
            height=140,
            elem_classes="references",
        )


def _counts() -> str:
    *most, last = map(str, sorted(LISTS))
    return f"{', '.join(most)} or {last}"


def _templates(trigger: str) -> str:
    """A few of the sentences that are used if no prompts are typed."""
    return "\n".join(concept_prompts(trigger, 3, seed=0)) if trigger else ""

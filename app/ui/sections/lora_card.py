"""One LoRA's place on the page: its card, its words, its strengths."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import gradio as gr

from app.schemas.card import Card
from app.schemas.merge import SelectedFile
from app.ui.common import AT_ONCE, Updates, Values
from app.ui.html.lora_card import card_html
from merging.block_weights import LISTS, PRESETS
from merging.calibration.prompts import concept_prompts
from merging.io.files import PICTURE_ENDINGS

EVERY_BLOCK = "every block alike"
WRITE_OUT, CAPTIONS = "Write the templates out", "Use the file's captions"


@dataclass(frozen=True)
class LoraCard:
    """The widgets of one LoRA; there are as many as a merge may have, most of them hidden."""

    group: gr.Column
    info: gr.HTML
    on: gr.Checkbox
    up: gr.Button
    down: gr.Button
    remove: gr.Button
    trigger: gr.Dropdown
    strength: gr.Slider
    references: gr.File  # stands in the Compare section
    more: gr.Accordion
    apart: gr.Checkbox
    parts: gr.Row
    text_encoder: gr.Slider
    unet: gr.Slider
    blocks: gr.Dropdown
    prompts: gr.Textbox
    write_out: gr.Button
    captions: gr.Button

    @property
    def settings(self) -> tuple[Any, ...]:
        """The widgets whose values say how the LoRA is to be used."""
        return (
            self.on,
            self.trigger,
            self.strength,
            self.apart,
            self.text_encoder,
            self.unet,
            self.blocks,
            self.prompts,
            self.references,
        )

    @property
    def weighing(self) -> tuple[Any, ...]:
        """What happens when strengths are changed."""
        sliders = (self.strength, self.text_encoder, self.unet)
        ends = tuple(slider.release for slider in sliders)
        return (*ends, self.on.input, self.apart.input, self.blocks.input)

    @property
    def widgets(self) -> set[Any]:
        """All of them."""
        return {getattr(self, each.name) for each in fields(self)}

    def pick(self, found: Card, values: Values) -> SelectedFile:
        """The LoRA as the visitor has set it."""
        apart = bool(values[self.apart])
        blocks = str(values[self.blocks] or "")
        return SelectedFile(
            path=found.path,
            name=found.name,
            strength=float(values[self.strength]),
            trigger=str(values[self.trigger] or "").strip(),
            text_encoder=float(values[self.text_encoder]) if apart else None,
            unet=float(values[self.unet]) if apart else None,
            blocks="" if blocks == EVERY_BLOCK else blocks.strip(),
            prompts=lines_of(values[self.prompts]),
            on=bool(values[self.on]),
            is_word=found.is_word,
            origin=found.origin,
            references=tuple(map(Path, values[self.references] or ())),
        )

    def show(self, found: Card, base: str, pick: SelectedFile) -> Updates:
        """The widgets filled for a file."""
        apart = pick.text_encoder is not None or pick.unet is not None
        lora = not pick.is_word
        te, unet = (pick.strength if own is None else own for own in (pick.text_encoder, pick.unet))
        return {
            self.group: gr.Column(visible=True, elem_classes=_classes(pick.on)),
            self.info: card_html(found, base),
            self.on: pick.on,
            self.trigger: gr.Dropdown(
                choices=list(found.words),
                value=pick.trigger,
                label="Trigger words" if lora else "Its word in prompts",
                visible=lora or len(found.embeddings) == 1,
            ),
            self.strength: gr.Slider(value=pick.strength, visible=lora),
            self.more: gr.Accordion(visible=lora),
            self.apart: apart,
            self.parts: gr.Row(visible=apart),
            self.text_encoder: te,
            self.unet: unet,
            self.blocks: pick.blocks or EVERY_BLOCK,
            self.prompts: gr.Textbox(
                "\n".join(pick.prompts), placeholder=_templates(pick.trigger or found.trigger)
            ),
            self.captions: gr.Button(visible=bool(found.captions)),
            self.references: gr.File(
                value=[str(path) for path in pick.references if path.is_file()] or None,
                label=f"Pictures of {pick.trigger or found.name}",
                visible=lora,
            ),
        }

    def at(self, place: int, count: int) -> Updates:
        """Where it can go in a list of ``count``."""
        return {
            self.up: gr.Button(interactive=place > 0),
            self.down: gr.Button(interactive=place < count - 1),
        }

    def hide(self) -> Updates:
        """The widgets of an empty place."""
        return {
            self.group: gr.Column(visible=False),
            self.trigger: "",
            self.strength: 1.0,
            self.references: gr.File(value=None, visible=False),
        }


def lines_of(text: str | None) -> tuple[str, ...]:
    """The lines that say something."""
    return tuple(line.strip() for line in (text or "").splitlines() if line.strip())


def slot() -> LoraCard:
    """One LoRA's place on the page."""
    with gr.Column(visible=False, elem_classes=_classes(True)) as group:
        info = gr.HTML()
        with gr.Row(elem_classes="tools"):
            on = gr.Checkbox(True, label="Use", container=False, min_width=60)
            up, down, remove = (
                gr.Button(word, size="sm", scale=0, min_width=0)
                for word in ("Up", "Down", "Remove")
            )
        with gr.Row(equal_height=True):
            trigger = gr.Dropdown(
                [],
                value="",
                allow_custom_value=True,
                label="Trigger words",
                min_width=140,
            )
            strength = gr.Slider(
                -2, 2, 1, step=0.05, label="Strength", info="1 is as trained", min_width=180
            )
        more = _more()
    on.input(lambda used: gr.Column(elem_classes=_classes(used)), on, group, **AT_ONCE)
    return LoraCard(group, info, on, up, down, remove, trigger, strength, _references(), *more)


def _more() -> tuple[Any, ...]:
    """What few people need: parts, blocks and calibration prompts."""
    with gr.Accordion("More: parts, blocks, prompts", open=False, elem_classes="more") as more:
        apart = gr.Checkbox(
            False, label="Text encoder and UNet apart", info="Their own strengths, in its place."
        )
        with gr.Row(visible=False) as parts:
            te, unet = (
                gr.Slider(-2, 2, 1, step=0.05, label=label, min_width=150)
                for label in ("Text encoder", "UNet")
            )
        blocks = gr.Dropdown(
            [EVERY_BLOCK, *PRESETS],
            value=EVERY_BLOCK,
            allow_custom_value=True,
            label="Block weights",
            info=f"A preset, or your own {_counts()} numbers with commas; they multiply.",
        )
        prompts = gr.Textbox(
            "",
            label="Calibration prompts",
            info="One a line. Empty: sentences like these are made from the trigger.",
            lines=3,
            max_lines=8,
        )
        with gr.Row():
            write_out, captions = (
                gr.Button(word, size="sm", min_width=120) for word in (WRITE_OUT, CAPTIONS)
            )
    apart.input(lambda wanted: gr.Row(visible=wanted), apart, parts, **AT_ONCE)
    return more, apart, parts, te, unet, blocks, prompts, write_out, captions


def _references() -> gr.File:
    """Made here, where the LoRA's other settings are; the Compare section puts it in its place."""
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
    """A few of the sentences that stand in for empty lines."""
    return "\n".join(concept_prompts(trigger, 3, seed=0)) if trigger else ""


def _classes(on: bool) -> list[str]:
    return ["slot"] if on else ["slot", "off"]

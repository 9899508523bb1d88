"""Load the settings of a PNG that was drawn here into the form."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from app.schemas.card import Card
from app.ui.common import QUIET, Updates, Values
from app.ui.handlers.form import Form
from app.ui.html import fragments as markup
from merging.errors import MergeError
from merging.io.png import Origin, UsedAdapter, read_origin


@dataclass(frozen=True)
class PictureLoader:
    """The upload field, and the form that it fills."""

    form: Form
    upload: gr.File
    message: gr.HTML

    def load(self, values: Values) -> Updates:
        """Fill in the settings in the picture; all others stay as they are."""
        if not values[self.upload]:
            return {self.message: gr.HTML(visible=False)}
        path = Path(values[self.upload])
        try:
            origin, recipe = read_origin(path)
        except MergeError as error:
            return {
                self.upload: None,
                self.message: gr.HTML(markup.problem_list([str(error)]), visible=True),
            }
        used = recipe_sources(recipe) if recipe else origin.adapters
        return {
            self.upload: None,
            self.form.suggested: "",
            **self.form.draw_form.updates_from_picture(origin),
            **(self.form.options.show(recipe) if recipe else {}),
            **self._slots(values[self.form.cards], used),
            self.message: gr.HTML(
                loaded_sentence(origin, values[self.form.cards], used), visible=True
            ),
        }

    def wire(self) -> None:
        """Read a picture as soon as it is uploaded."""
        form = self.form
        slots = {part for slot in form.slots for part in (slot.trigger, slot.strength)}
        outputs = {
            *(self.upload, self.message, form.suggested),
            *form.options.all,
            *vars(form.draw_form).values(),
            *slots,
        }
        self.upload.upload(self.load, form.inputs | {self.upload}, outputs, **QUIET)

    def _slots(self, cards: list[Card], used: tuple[UsedAdapter, ...]) -> Updates:
        """Strength and trigger words of the LoRAs that are loaded, identified by their SHA-256."""
        by_hash = {lora.sha256: lora for lora in used if lora.sha256}
        updates: Updates = {}
        for card, slot in zip(cards, self.form.slots, strict=False):
            if lora := by_hash.get(card.sha256):
                updates |= {slot.strength: lora.strength, slot.trigger: lora.trigger}
        return updates


def picture_loader(form: Form, upload: gr.File, message: gr.HTML) -> PictureLoader:
    """The loader, connected."""
    loader = PictureLoader(form, upload, message)
    loader.wire()
    return loader


def recipe_sources(recipe: dict[str, Any]) -> tuple[UsedAdapter, ...]:
    """The LoRAs and textual inversions of a recipe; incomplete entries are left out."""
    embeddings = [
        {"strength": 1.0, "trigger": entry.get("word"), **entry}
        for entry in _dicts(recipe.get("embeddings"))
    ]
    return tuple(
        UsedAdapter(
            str(entry["name"]),
            float(entry["strength"]),
            str(entry["trigger"]),
            str(entry["sha256"]),
        )
        for entry in (*_dicts(recipe.get("sources")), *embeddings)
        if {"name", "strength", "trigger", "sha256"} <= entry.keys()
    )


def _dicts(value: object) -> list[dict[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def loaded_sentence(origin: Origin, cards: list[Card], used: tuple[UsedAdapter, ...]) -> str:
    """What was loaded, and which files have to be added."""
    here = {card.sha256 for card in cards} | {card.name for card in cards}
    missing = [lora.name for lora in used if not {lora.sha256, lora.name} & here]
    text = f"Settings loaded from the picture (seed {origin.seed}, {origin.steps} steps)."
    if missing:
        text += f" To draw it again, add {', '.join(missing)} and merge."
    return markup.messages([text])

"""Settings taken from an older picture: it is dropped on the page, and the form is filled."""

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
from merging.io.png import Origin, Used, read_origin


@dataclass(frozen=True)
class PictureLoader:
    """The place to drop a picture, and the form that it fills."""

    form: Form
    upload: gr.File
    told: gr.HTML

    def load(self, values: Values) -> Updates:
        """Fill what the picture says; what it cannot say stays as it is."""
        if not values[self.upload]:
            return {self.told: gr.HTML(visible=False)}
        path = Path(values[self.upload])
        try:
            origin, recipe = read_origin(path)
        except MergeError as error:
            return {
                self.upload: None,
                self.told: gr.HTML(markup.problem_list([str(error)]), visible=True),
            }
        used = sources(recipe) if recipe else origin.adapters
        return {
            self.upload: None,
            self.form.suggested: "",
            **self.form.scene.filled(origin),
            **(self.form.options.show(recipe) if recipe else {}),
            **self._slots(values[self.form.cards], used),
            self.told: gr.HTML(loaded(origin, values[self.form.cards], used), visible=True),
        }

    def wire(self) -> None:
        """A picture that was dropped is read at once."""
        form = self.form
        slots = {part for slot in form.slots for part in (slot.trigger, slot.strength)}
        outputs = {
            *(self.upload, self.told, form.suggested),
            *form.options.all,
            *vars(form.scene).values(),
            *slots,
        }
        self.upload.upload(self.load, form.inputs | {self.upload}, outputs, **QUIET)

    def _slots(self, cards: list[Card], used: tuple[Used, ...]) -> Updates:
        """Strength and trigger of the LoRAs that are here, known by their bytes."""
        by_hash = {each.sha256: each for each in used if each.sha256}
        updates: Updates = {}
        for card, slot in zip(cards, self.form.slots, strict=False):
            if found := by_hash.get(card.sha256):
                updates |= {slot.strength: found.strength, slot.trigger: found.trigger}
        return updates


def loader(form: Form, upload: gr.File, told: gr.HTML) -> PictureLoader:
    """The loader, wired."""
    made = PictureLoader(form, upload, told)
    made.wire()
    return made


def sources(recipe: dict[str, Any]) -> tuple[Used, ...]:
    """What a merge was made of, as far as its recipe can be understood."""
    words = [
        {"strength": 1.0, "trigger": one.get("word"), **one}
        for one in _dicts(recipe.get("embeddings"))
    ]
    return tuple(
        Used(str(one["name"]), float(one["strength"]), str(one["trigger"]), str(one["sha256"]))
        for one in (*_dicts(recipe.get("sources")), *words)
        if {"name", "strength", "trigger", "sha256"} <= one.keys()
    )


def _dicts(listed: object) -> list[dict[str, Any]]:
    return [one for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []


def loaded(origin: Origin, cards: list[Card], used: tuple[Used, ...]) -> str:
    """What was taken, and which LoRAs are still to be added."""
    here = {card.sha256 for card in cards} | {card.name for card in cards}
    missing = [each.name for each in used if each.sha256 not in here and each.name not in here]
    text = f"The form is as for that picture (seed {origin.seed}, {origin.steps} steps)."
    if missing:
        text += f" To draw it again, add {', '.join(missing)} and merge."
    return markup.messages([text])

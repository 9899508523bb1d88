"""Load the settings of a PNG that was drawn here into the form."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.schemas.card import Card
from app.ui.common import Updates, Values
from app.ui.handlers.form import Form
from merging.io.png import Origin, UsedAdapter, read_origin


@dataclass(frozen=True)
class PictureLoader:
    """Fills the form with the settings of a picture."""

    form: Form

    @property
    def outputs(self) -> set[Any]:
        """Everything that a picture may change."""
        form = self.form
        slots = {part for slot in form.slots for part in (slot.trigger, slot.strength)}
        return {form.suggested, *form.options.all, *vars(form.draw_form).values(), *slots}

    def load(self, path: Path, values: Values) -> tuple[Updates, str]:
        """Updates with the settings in a picture, and a sentence; all others stay as they are.

        MergeError if it is no picture that was drawn here.
        """
        origin, recipe = read_origin(path)
        used = recipe_sources(recipe) if recipe else origin.adapters
        updates = {
            self.form.suggested: "",
            **self.form.draw_form.updates_from_picture(origin),
            **(self.form.options.show(recipe) if recipe else {}),
            **self._slots(values[self.form.cards], used),
        }
        return updates, loaded_sentence(origin, values[self.form.cards], used)

    def _slots(self, cards: list[Card], used: tuple[UsedAdapter, ...]) -> Updates:
        """Strength and trigger words of the LoRAs that are loaded, identified by their SHA-256."""
        by_hash = {lora.sha256: lora for lora in used if lora.sha256}
        updates: Updates = {}
        for card, slot in zip(cards, self.form.slots, strict=False):
            if lora := by_hash.get(card.sha256):
                updates |= {slot.strength: lora.strength, slot.trigger: lora.trigger}
        return updates


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
    present = {card.sha256 for card in cards} | {card.name for card in cards}
    missing = [lora.name for lora in used if not {lora.sha256, lora.name} & present]
    text = f"Settings loaded from the picture (seed {origin.seed}, {origin.steps} steps)."
    if missing:
        text += f" To draw it again, add {', '.join(missing)} and merge."
    return text

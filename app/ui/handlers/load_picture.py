"""Load the settings of a PNG that was drawn here into the form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from app.schemas.card import Card
from app.schemas.merge import SelectedFile
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
        return {*form.outputs, *form.options.all, *vars(form.draw_form).values()}

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
        }
        cards = values[self.form.cards]
        picks = _used_picks(cards, values[self.form.settled], used)
        updates |= self.form.card_updates(cards, picks, values | updates)
        return updates, loaded_sentence(origin, cards, used)


def _used_picks(
    cards: Sequence[Card], picks: Sequence[SelectedFile], used: tuple[UsedAdapter, ...]
) -> tuple[SelectedFile, ...]:
    """The files with the picture's strengths and trigger words, found by their SHA-256."""
    by_hash = {lora.sha256: lora for lora in used if lora.sha256}
    pairs = [(by_hash.get(card.sha256), pick) for card, pick in zip(cards, picks, strict=True)]
    return tuple(
        replace(pick, strength=lora.strength, trigger=lora.trigger) if lora else pick
        for lora, pick in pairs
    )


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

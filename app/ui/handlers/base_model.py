"""The base model follows the LoRAs, and says what it costs; what was said above the drop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from app.schemas.card import Card, bases_of, fits
from app.service import Studio
from app.ui.common import Updates, Values
from app.ui.handlers.form import Form
from app.ui.html import fragments as markup
from app.ui.sections.add_files import AddFilesSection
from merging.base_models import base_model


@dataclass(frozen=True)
class BaseHandlers:
    """How files and visitor choose the base model."""

    studio: Studio
    form: Form
    adding: AddFilesSection

    @property
    def outputs(self) -> set[Any]:
        """What changes when files choose the base model."""
        base = self.form.base
        drawing = {self.form.draw_form.guidance, self.form.draw_form.count}
        return {self.adding.problems, self.adding.unify, base.radio, base.other, *drawing}

    def updates_for(self, name: str) -> Updates:
        """Another base model, with the guidance and the number of seeds that suit it."""
        return self.form.base.updates_for(name) | self._drawing_updates(name)

    def _drawing_updates(self, name: str) -> Updates:
        form = self.form.draw_form
        seeds = self.studio.usual_seeds(name)
        return {form.guidance: base_model(name).guidance, form.count: seeds}

    def for_cards(self, values: Values, cards: Sequence[Card]) -> tuple[Updates, list[str]]:
        """The base model that all LoRAs were made for, if another one is chosen, and a note."""
        bases, chosen = bases_of(cards), self.form.base.name(values)
        if len(bases) != 1 or fits(bases[0], chosen):
            return {}, []
        return self.updates_for(bases[0]), [using_base(bases[0])]

    def unify_update(self, cards: Sequence[Card]) -> Updates:
        """The button that leaves only the LoRAs of one base model, where there are two."""
        bases = bases_of(cards)
        label = f"Keep only those for {base_model(bases[0]).title}" if len(bases) > 1 else ""
        return {self.adding.unify: gr.Button(label, visible=bool(label))}

    def unify(self, values: Values) -> Updates:
        """Switch to the base model of most LoRAs, and remove the others."""
        cards, picks = values[self.form.cards], self.form.picks(values)
        name = bases_of(cards)[0]
        pairs = [pair for pair in zip(cards, picks, strict=True) if fits(pair[0].base, name)]
        base = self.updates_for(name)
        left = [card for card, _ in pairs]
        changed = name != self.form.base.name(values)
        return {
            **base,
            **self.form.card_updates(left, tuple(pick for _, pick in pairs), values | base),
            **self.unify_update(left),
            self.adding.problems: problems_html([], [using_base(name)] if changed else []),
        }

    def change(self, values: Values) -> Updates:
        """Another base model: the rows show whether they fit it, and drawing gets its defaults."""
        form = self.form
        drawing = self._drawing_updates(form.base.name(values))
        return form.card_updates(values[form.cards], form.picks(values), values) | drawing


def problems_html(sentences: Sequence[str], notes: Sequence[str] = ()) -> gr.HTML:
    """Problems and notes, hidden if there are none."""
    text = markup.problem_list(sentences) + (markup.messages(notes) if notes else "")
    return gr.HTML(text, visible=bool(text))


def using_base(name: str) -> str:
    """That another base model is used now, and what it costs."""
    model = base_model(name)
    cost = "" if model.folder else f": one download of {model.download}, unless it is here already"
    return f"Using {model.title} for these{cost}. Change it at the top of the page."

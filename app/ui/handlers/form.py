"""The widgets a visitor fills in, and what their values mean: widgets → orders, cards → widgets."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import gradio as gr

from app.prompts import example_prompts, suggested_prompt
from app.schemas.card import Card
from app.schemas.draw import DrawOrder
from app.schemas.merge import FinishedMerge, MergeOrder, SelectedFile
from app.ui.common import Updates, Values
from app.ui.sections.base_model import BaseChoice
from app.ui.sections.draw_form import DrawForm
from app.ui.sections.lora_card import LoraCard
from app.ui.sections.merge_options import OptionWidgets
from merging.errors import MergeError


@dataclass(frozen=True)
class Form:
    """All of it, with the visitor's state."""

    session: gr.State  # token of the visit, "" before the first file
    cards: gr.State  # list[Card]
    merged: gr.State  # FinishedMerge of the last merge, or None
    suggested: gr.State  # the prompt that the page wrote last
    base: BaseChoice
    slots: tuple[LoraCard, ...]
    options: OptionWidgets
    scene: DrawForm

    @property
    def inputs(self) -> set[Any]:
        """Everything that a handler may want to know."""
        slots = [part for slot in self.slots for part in slot.settings]
        widgets = [*vars(self.base).values(), *self.options.all, *vars(self.scene).values()]
        return {self.session, self.cards, self.merged, self.suggested, *slots, *widgets}

    def picks(self, values: Values) -> tuple[SelectedFile, ...]:
        """The LoRAs as the visitor has set them."""
        cards: list[Card] = values[self.cards]
        if not cards and any(values[slot.trigger] for slot in self.slots):
            # The page shows cards that the server has forgotten: it was started anew meanwhile.
            raise MergeError("Your session has expired: reload the page and add your files again.")
        both = zip(cards, self.slots, strict=False)
        return tuple(slot.pick(found, values) for found, slot in both)

    @property
    def outputs(self) -> set[Any]:
        """What changes when files come and go."""
        slots = [part for slot in self.slots for part in slot.widgets]
        return {self.session, self.cards, self.suggested, self.scene.prompt, *slots}

    def merge_order(self, values: Values) -> MergeOrder:
        """What the visitor wants merged."""
        used = [replace(pick, references=()) for pick in self.picks(values) if pick.on]
        return MergeOrder(
            picks=tuple(pick for pick in used if not pick.is_word),
            words=tuple(pick for pick in used if pick.is_word),
            base=self.base.name(values),
            precision=values[self.base.precision],
            **self.options.order(values),
        )

    def last_merge(self, values: Values) -> FinishedMerge:
        """The merge on the page; MergeError while there is none."""
        merged: FinishedMerge | None = values[self.merged]
        if merged is None:
            raise MergeError("There is nothing to compare yet: merge first, then draw.")
        return merged

    def draw_order(self, values: Values, merged: FinishedMerge, prompt: str) -> DrawOrder:
        """What the visitor wants drawn: a merge beside what went into it."""
        own = self.picks(values)
        pictures = {key: pick.references for pick in own for key in (pick.name, pick.path)}
        return DrawOrder(
            picks=tuple(
                # of a merge of before, the same files lie elsewhere
                replace(pick, references=pictures.get(pick.path, pictures.get(pick.name, ())))
                for pick in merged.order.picks
            ),
            words=merged.order.words,
            prompt=prompt,
            base=merged.order.base,
            precision=merged.order.precision,
            merged=merged.drawn_with,
            method=merged.method,
            **self.scene.chosen(values),
        )

    def prompt(self, values: Values, picks: tuple[SelectedFile, ...]) -> str:
        """The prompt to draw: the visitor's own, or a fresh suggestion where there is none."""
        typed = values[self.scene.prompt]
        if typed.strip() and typed != values[self.suggested]:
            return typed
        return suggested_prompt(_called(picks), self.base.name(values))

    def another_prompt(self, values: Values) -> Updates:
        """The example after the one in the prompt's place, or the first one."""
        examples = example_prompts(_called(self.picks(values)), self.base.name(values))
        typed = values[self.scene.prompt]
        after = examples.index(typed) + 1 if typed in examples else 0
        return self.prompted(values, examples[after % len(examples)])

    def prompted(self, values: Values, prompt: str) -> Updates:
        """The prompt field, and a note of it if the page wrote it."""
        if prompt == values[self.scene.prompt]:
            return {}
        return {self.scene.prompt: prompt, self.suggested: prompt}

    def filled(self, cards: list[Card], picks: tuple[SelectedFile, ...], values: Values) -> Updates:
        """Slots and suggested prompt for these files."""
        base = self.base.name(values)
        updates: Updates = {self.cards: cards}
        updates |= self.prompted(values, self.prompt(values, picks))
        for place, (slot, found, pick) in enumerate(zip(self.slots, cards, picks, strict=False)):
            updates |= slot.show(found, base, pick)
            updates |= slot.at(place, len(cards))
        for slot in self.slots[len(cards) :]:
            updates |= slot.hide()
        return updates


def _called(picks: tuple[SelectedFile, ...]) -> list[str]:
    """The trigger words of the LoRAs that are switched on."""
    return [pick.trigger for pick in picks if pick.on and not pick.is_word]

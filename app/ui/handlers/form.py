"""The input widgets: their values as orders, and cards as their updates."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import gradio as gr

from app.prompts import suggested_prompt, suggestions
from app.schemas.card import Card
from app.schemas.draw import DrawOrder
from app.schemas.merge import FinishedMerge, MergeOrder, SelectedFile
from app.ui.common import Updates, Values
from app.ui.html import fragments as markup
from app.ui.sections.base_model import BaseChoice
from app.ui.sections.draw_form import DrawForm
from app.ui.sections.lora_card import LoraCard
from app.ui.sections.merge_options import OptionWidgets
from merging.errors import MergeError


@dataclass(frozen=True)
class Form:
    """The widgets, and the state of the session."""

    session: gr.State  # token of the session, "" before the first file
    cards: gr.State  # list[Card]
    merged: gr.State  # FinishedMerge of the last merge, or None
    suggested: gr.State  # the last prompt that the page wrote
    base: BaseChoice
    slots: tuple[LoraCard, ...]
    options: OptionWidgets
    draw_form: DrawForm
    chips: gr.HTML  # which triggers the prompt has

    @property
    def inputs(self) -> set[Any]:
        """Everything that a handler may read."""
        slots = [part for slot in self.slots for part in slot.settings]
        widgets = [*vars(self.base).values(), *self.options.all, *vars(self.draw_form).values()]
        return {self.session, self.cards, self.merged, self.suggested, *slots, *widgets}

    def picks(self, values: Values) -> tuple[SelectedFile, ...]:
        """All files with the settings of their cards."""
        cards: list[Card] = values[self.cards]
        if not cards and any(values[slot.trigger] for slot in self.slots):
            # The page shows cards, but the server has been restarted since and knows none.
            raise MergeError("Your session has expired: reload the page and add your files again.")
        pairs = zip(cards, self.slots, strict=False)
        return tuple(slot.pick(card, values) for card, slot in pairs)

    @property
    def outputs(self) -> set[Any]:
        """Everything that changes with the list of files."""
        slots = [part for slot in self.slots for part in slot.widgets]
        states = {self.session, self.cards, self.suggested}
        return {*states, self.draw_form.prompt, self.chips, *slots}

    def merge_order(self, values: Values) -> MergeOrder:
        """The merge that the widgets describe."""
        picks = [replace(pick, references=()) for pick in self.picks(values) if pick.on]
        return MergeOrder(
            picks=tuple(pick for pick in picks if not pick.is_word),
            words=tuple(pick for pick in picks if pick.is_word),
            base=self.base.name(values),
            precision=values[self.base.precision],
            **self.options.order(values),
        )

    def last_merge(self, values: Values) -> FinishedMerge:
        """The merge on the page; MergeError if there is none."""
        merged: FinishedMerge | None = values[self.merged]
        if merged is None:
            raise MergeError("There is no merge to compare yet: merge first, then draw.")
        return merged

    def draw_order(
        self, values: Values, order: MergeOrder, prompt: str, merged: FinishedMerge | None = None
    ) -> DrawOrder:
        """The pictures that the widgets describe, for the LoRAs of a merge that may yet be made."""
        picks = self.picks(values)
        references = {key: pick.references for pick in picks for key in (pick.name, pick.path)}
        return DrawOrder(
            picks=tuple(
                # the files of an earlier merge have other paths, but the same names
                replace(pick, references=references.get(pick.path, references.get(pick.name, ())))
                for pick in order.picks
            ),
            words=order.words,
            prompt=prompt,
            base=order.base,
            precision=order.precision,
            merged=merged.drawn_with if merged else None,
            method=merged.method if merged else "",
            previews=True,
            judged=True,
            **self.draw_form.order_fields(values),
        )

    def prompt(self, values: Values, picks: tuple[SelectedFile, ...]) -> str:
        """The prompt that the visitor typed, or a suggestion if there is none."""
        typed = values[self.draw_form.prompt]
        if typed.strip() and typed != values[self.suggested]:
            return typed
        return suggested_prompt(_triggers(picks), self.base.name(values))

    def another_prompt(self, values: Values) -> Updates:
        """Write the next example prompt."""
        texts = suggestions(_triggers(self.picks(values)), self.base.name(values))
        typed = values[self.draw_form.prompt]
        index = texts.index(typed) + 1 if typed in texts else 0
        return self.prompt_update(values, texts[index % len(texts)])

    def chip_update(self, values: Values) -> Updates:
        """Show which triggers the prompt has."""
        triggers = _triggers(self.picks(values))
        return {self.chips: markup.chips(values[self.draw_form.prompt], triggers)}

    def prompt_update(self, values: Values, prompt: str) -> Updates:
        """Write a prompt into its field, and remember that the page wrote it."""
        if prompt == values[self.draw_form.prompt]:
            return {}
        return {self.draw_form.prompt: prompt, self.suggested: prompt}

    def card_updates(
        self, cards: list[Card], picks: tuple[SelectedFile, ...], values: Values
    ) -> Updates:
        """The cards and the suggested prompt for these files."""
        base = self.base.name(values)
        updates: Updates = {self.cards: cards}
        prompt = self.prompt(values, picks)
        updates |= self.prompt_update(values, prompt)
        updates[self.chips] = markup.chips(prompt, _triggers(picks))
        for place, (slot, card, pick) in enumerate(zip(self.slots, cards, picks, strict=False)):
            updates |= slot.show(card, base, pick)
            updates |= slot.move_buttons(place, len(cards))
        for slot in self.slots[len(cards) :]:
            updates |= slot.hide()
        return updates


def _triggers(picks: tuple[SelectedFile, ...]) -> list[str]:
    """The trigger words of all LoRAs that are switched on."""
    return [pick.trigger for pick in picks if pick.on and not pick.is_word]

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
from app.ui.sections.lora_drawer import CLOSED, LoraDrawer
from app.ui.sections.lora_row import LoraRow
from app.ui.sections.merge_options import OptionWidgets
from merging.errors import MergeError


@dataclass(frozen=True)
class Form:
    """The widgets, and the state of the session."""

    session: gr.State  # token of the session, "" before the first file
    visit: gr.Textbox  # the same token in the browser, which outlives the server
    cards: gr.State  # list[Card]
    settled: gr.State  # tuple[SelectedFile, ...]: each card's settings when they were last shown
    merged: gr.State  # FinishedMerge of the last merge, or None
    suggested: gr.State  # the last prompt that the page wrote
    base: BaseChoice
    rows: tuple[LoraRow, ...]
    drawer: LoraDrawer
    options: OptionWidgets
    draw_form: DrawForm
    chips: gr.HTML  # which triggers the prompt has

    @property
    def inputs(self) -> set[Any]:
        """Everything that a handler may read."""
        states = {self.session, self.visit, self.cards, self.settled, self.merged, self.suggested}
        widgets = [*vars(self.base).values(), *self.options.all, *vars(self.draw_form).values()]
        return {*states, self.drawer.place, *self.lora_settings, *widgets}

    @property
    def lora_settings(self) -> list[Any]:
        """The widgets that set how the LoRAs are used."""
        return [*(row.strength for row in self.rows), *self.drawer.settings]

    def picks(self, values: Values) -> tuple[SelectedFile, ...]:
        """All files with the settings that rows and drawer show."""
        if values[self.visit] and not values[self.session]:
            # The page shows cards, but the server has been restarted since and knows none.
            raise MergeError("Your session has expired: reload the page and add your files again.")
        pairs = zip(values[self.settled], self.rows, strict=False)
        picks = [replace(pick, strength=float(values[row.strength])) for pick, row in pairs]
        place = self.opened(values)
        if 0 <= place < len(picks):
            picks[place] = self.drawer.pick(picks[place], values)
        return tuple(picks)

    def opened(self, values: Values) -> int:
        """The place of the LoRA that the drawer is about, CLOSED if it is closed."""
        place = values[self.drawer.place]
        return CLOSED if place is None else max(int(place), CLOSED)

    @property
    def outputs(self) -> set[Any]:
        """Everything that changes with the list of files."""
        states = {self.session, self.cards, self.settled, self.suggested}
        rows = [widget for row in self.rows for widget in row.widgets]
        return {*states, self.draw_form.prompt, self.chips, *rows, *self.drawer.widgets}

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
        """The prompt that the visitor typed, or a suggestion: the one that stands there."""
        typed = values[self.draw_form.prompt]
        if typed.strip() and typed != values[self.suggested]:
            return typed
        return suggested_prompt(_triggers(picks), self.base.name(values), typed)

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
        self,
        cards: list[Card],
        picks: tuple[SelectedFile, ...],
        values: Values,
        opened: int | None = None,
    ) -> Updates:
        """Rows, drawer and suggested prompt for these files.

        ``opened``: the place that the drawer is about from now on, by default as before.
        """
        base, place = self.base.name(values), self.opened(values) if opened is None else opened
        place = min(place, len(cards) - 1)
        updates: Updates = {self.cards: cards, self.settled: picks}
        prompt = self.prompt(values, picks)
        updates |= self.prompt_update(values, prompt)
        updates[self.chips] = markup.chips(prompt, _triggers(picks))
        for i, (row, card, pick) in enumerate(zip(self.rows, cards, picks, strict=False)):
            updates |= row.show(card, base, pick, i == place)
        for row in self.rows[len(cards) :]:
            updates |= row.hide()
        return updates | self.drawer.show(cards, picks, place)

    def toggle(self, place: int, values: Values) -> Updates:
        """Open the drawer for the LoRA at a place of the list, or close it if it is open there."""
        cards, picks, before = values[self.cards], self.picks(values), self.opened(values)
        place = CLOSED if place == before or place >= len(cards) else place
        updates: Updates = {self.settled: picks}
        for i in {before, place} & set(range(len(picks))):
            updates |= self.rows[i].mark(picks[i].on, i == place)
        return updates | self.drawer.show(cards, picks, place)


def _triggers(picks: tuple[SelectedFile, ...]) -> list[str]:
    """The trigger words of all LoRAs that are switched on."""
    return [pick.trigger for pick in picks if pick.on and not pick.is_word]

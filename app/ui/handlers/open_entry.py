"""An entry of the history is brought back to the page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from app.schemas.card import Card
from app.service import Studio
from app.shell_commands import draw_commands
from app.storage.history import OpenedEntry
from app.ui.common import Updates, Values, updates_or_problem
from app.ui.handlers.base_model import problems_html
from app.ui.handlers.files import FileHandlers
from app.ui.handlers.jobs import Handlers
from app.ui.html import fragments as markup


@dataclass(frozen=True)
class EntryOpener:
    """Fills the page with what an entry has."""

    listing: FileHandlers
    handlers: Handlers
    message: gr.HTML  # what was done, or why not

    @property
    def studio(self) -> Studio:
        """The service that knows the history."""
        return self.handlers.studio

    @property
    def outputs(self) -> set[Any]:
        """Everything that changes when an entry is opened."""
        form = self.handlers.form
        widgets = {*vars(form.base).values(), *form.options.all, *vars(form.draw_form).values()}
        widgets |= {self.message, self.listing.adding.problems, form.merged}
        return {*form.outputs, *widgets, *self.handlers.results.outputs}

    def open(self, values: Values, entry: int) -> Updates:
        """Show a merge and its pictures again, or say why not."""
        return updates_or_problem(self.message, lambda: self.opened(values, entry)[1])

    def opened(self, values: Values, entry: int) -> tuple[OpenedEntry, Updates]:
        """An entry, and the updates that show it."""
        session = self.listing.visit(values)
        opened = self.studio.recall(session, entry)
        cards: list[Card] = []
        for pick in opened.files:
            name = f"{pick.name}.safetensors"
            cards.append(self.studio.add(session, pick.path, cards, name, pick.origin))
        opened = opened.moved([card.path for card in cards])
        gone = [pick.name for pick in opened.merged.order.picks if pick not in opened.here]
        missing = [f"{name} is no longer in your library: add its file." for name in gone]
        note = markup.messages(["It is back on the page."])
        updates = {
            self.handlers.form.session: session,
            **self._form_updates(values, opened, cards),
            **self._result_updates(opened),
            self.message: gr.HTML(note, visible=True),
            self.listing.adding.problems: problems_html([], [*missing, *opened.notes]),
        }
        return opened, updates | self.handlers.offer_merges({**values, **updates})

    def _form_updates(self, values: Values, opened: OpenedEntry, cards: list[Card]) -> Updates:
        """Cards, options and prompts of the entry; the cards stay if none of its files exists."""
        form, order = self.handlers.form, opened.merged.order
        base = form.base.updates_for(order.base)
        updates: Updates = {**base, **form.options.show(opened.merged.recipe)}
        updates |= {form.options.dtype: order.dtype, form.base.precision: order.precision}
        if cards:
            picks = (*opened.here, *order.words)
            updates |= form.card_updates(cards, picks, {**values, **base})
        if opened.scene:
            updates |= form.draw_form.updates_from_order(opened.scene) | {form.suggested: ""}
        return updates

    def _result_updates(self, opened: OpenedEntry) -> Updates:
        """The files and pictures of the entry."""
        files, views = self.handlers.results.files, self.handlers.results.views
        merged, scene, pictures = opened.merged, opened.scene, list(opened.pictures)
        updates = {self.handlers.form.merged: merged, **files.show_merge(merged), **views.clear()}
        if not scene or not pictures:
            return updates
        updates |= views.show_pictures(pictures)
        return updates | views.show_views(pictures, draw_commands(scene))

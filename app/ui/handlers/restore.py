"""A page that is loaded again has what it had: files, settings, pictures, and the running job.

The browser's tab keeps the token of its visit, and nothing else; the rest stays on the server.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import gradio as gr

from app.service import Studio
from app.ui.common import AT_ONCE, QUIET, Updates, Values, current_client
from app.ui.handlers.jobs import Handlers

MAX_DRAFTS = 500  # visits that can be brought back, as many as Gradio keeps
TOKEN = "iteris-visit"
READ = f"() => sessionStorage.getItem('{TOKEN}') ?? ''"
WRITE = f"(token) => {{ if (token) sessionStorage.setItem('{TOKEN}', token); }}"


@dataclass
class Drafts:
    """What the pages of the last visits have, by the visits' tokens."""

    _values: OrderedDict[str, Values] = field(default_factory=OrderedDict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def keep(self, token: str, values: Values) -> None:
        """Keep the newest values of a visit; the visits that were kept longest ago go."""
        with self._lock:
            self._values[token] = values
            self._values.move_to_end(token)
            while len(self._values) > MAX_DRAFTS:
                self._values.popitem(last=False)

    def of(self, studio: Studio, token: str, client: str) -> Values | None:
        """The values of a visit that still exists; a visit of a login comes back to that alone."""
        with self._lock:
            values = self._values.get(token)
        if values is None or not studio.store.is_open(token):
            return None
        owner = studio.store.client(token)
        return None if owner.startswith("login ") and owner != client else values


@dataclass(frozen=True)
class RestoreHandlers:
    """Keeps what a page has, and brings it back."""

    handlers: Handlers
    drafts: Drafts = field(default_factory=Drafts)

    @property
    def inputs(self) -> set[Any]:
        """All that is kept."""
        views = self.handlers.results.views
        return {*self.handlers.form.inputs, views.drawn, views.command}

    @property
    def outputs(self) -> set[Any]:
        """All that changes when it comes back."""
        form, results = self.handlers.form, self.handlers.results
        return {*self.inputs, *form.outputs, *results.outputs}

    def keeping(self, look: Callable[[Values], Updates]) -> Callable[[Values], Updates]:
        """A handler that keeps what the page has before it looks: one request in place of two."""

        def keep_and_look(values: Values) -> Updates:
            if token := values[self.handlers.form.session]:  # without files, nothing to keep
                self.drafts.keep(token, {widget: values[widget] for widget in self.inputs})
            return look(values)

        return keep_and_look

    def restore(self, token: str) -> Updates:
        """What the visit's page had, if there is such a visit."""
        values = self.drafts.of(self.handlers.studio, token, current_client())
        if values is None:
            return {self.handlers.form.session: gr.skip()}
        form = self.handlers.form
        same = [*vars(form.base).values(), *form.options.all, *vars(form.draw_form).values()]
        updates = {widget: values[widget] for widget in (form.session, form.suggested, *same)}
        updates |= form.card_updates(values[form.cards], form.picks(values), values)
        updates |= self.handlers.offer_merges(values)
        return updates | self._results(values)

    def _results(self, values: Values) -> Updates:
        """The last merge and its pictures."""
        form, results = self.handlers.form, self.handlers.results
        merged, drawn = values[form.merged], values[results.views.drawn]
        updates: Updates = {}
        if merged is not None:
            updates |= {form.merged: merged, **results.files.show_merge(merged)}
        if drawn:
            views = results.views
            updates |= views.show_pictures(drawn)
            updates |= views.show_views(drawn, values[views.command] or "")
        return updates


def wire_restore(restoring: RestoreHandlers, demo: gr.Blocks, job: dict[str, Any]) -> list[Any]:
    """Connect it; returns the events that bring back what a page had, and go on with a job."""
    handlers, form = restoring.handlers, restoring.handlers.form
    known = form.session.change(lambda token: token, form.session, form.visit, **AT_ONCE)
    known.then(None, form.visit, None, js=WRITE)
    returning = gr.Textbox(visible="hidden")  # changes for none but a visit that comes back
    demo.load(None, None, returning, js=READ)
    loaded = returning.change(restoring.restore, returning, restoring.outputs, **QUIET)
    return [loaded, loaded.then(handlers.rejoin, form.inputs, handlers.outputs, **job)]

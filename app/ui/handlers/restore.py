"""A page that is loaded again has what it had: files, settings, pictures, and the running job.

The browser's tab keeps the token of its visit, and nothing else; the rest stays on the server.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

import gradio as gr

from app.service import Studio
from app.ui.common import AT_ONCE, QUIET, Updates, Values, current_client, user_change
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

    def keep(self, values: Values) -> None:
        """Keep what the page has; a page without files has nothing to keep."""
        if token := values[self.handlers.form.session]:
            self.drafts.keep(token, dict(values))

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


def wire_restore(
    restoring: RestoreHandlers, demo: gr.Blocks, events: list[Any], job: dict[str, Any]
) -> list[Any]:
    """Connect it; ``events`` change what a page has. Returns the event that goes on with a job."""
    handlers, form = restoring.handlers, restoring.handlers.form
    token, last = form.visit, {**AT_ONCE, "trigger_mode": "always_last"}
    drawing = vars(form.draw_form).values()
    widgets = [*vars(form.base).values(), *form.options.all, *drawing, *form.lora_settings]
    changes = [*map(user_change, widgets), form.draw_form.prompt.change]
    gr.on(changes, restoring.keep, restoring.inputs, None, **last)
    known = form.session.change(lambda token: token, form.session, token, **AT_ONCE)
    known.then(None, token, None, js=WRITE)
    loaded = demo.load(restoring.restore, token, restoring.outputs, js=READ, **QUIET)
    joined = loaded.then(handlers.rejoin, form.inputs, handlers.outputs, **job)
    for event in (*events, joined):
        event.then(restoring.keep, restoring.inputs, None, **AT_ONCE)
    return [loaded, joined]

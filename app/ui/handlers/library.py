"""The library: search files that were added before, add them again, or delete them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from app.sidecars import Sidecar
from app.storage.library import Library
from app.ui.common import AT_ONCE, QUIET, Updates, Values
from app.ui.handlers.base_model import problems_html
from app.ui.handlers.files import LOOK, FileHandlers
from merging.errors import MergeError

NEWEST, MATCHES, NO_MATCH = "Newest first", "Best matches first", "No matches"
EMPTY = "Nothing yet: files that you add above are saved here"


@dataclass(frozen=True)
class LibraryHandlers:
    """The behaviour of the library section."""

    listing: FileHandlers

    @property
    def inputs(self) -> set[Any]:
        """The form, the search text and the ticked files."""
        widgets = self.listing.sources.library
        return {*self.listing.form.inputs, widgets.search, widgets.results}

    def search(self, values: Values) -> Updates:
        """Show the matches, or the newest files if the search text is empty."""
        widgets, adding = self.listing.sources.library, self.listing.adding
        text = values[widgets.search] or ""
        try:
            begun = self.listing.studio.begun(values[self.listing.form.session])
            entries = self._library(values).search(text) if begun else []
        except MergeError as error:
            return {
                widgets.results: gr.CheckboxGroup([], value=[]),
                adding.problems: problems_html([str(error)]),
            }
        title, empty = (MATCHES, NO_MATCH) if text.strip() else (NEWEST, EMPTY)
        label = title if entries else empty
        choices = [(entry.title, entry.sha256) for entry in entries]
        return {widgets.results: gr.CheckboxGroup(choices, value=[], label=label)}

    def add(self, values: Values) -> Updates:
        """Add the ticked files to the list."""
        widgets = self.listing.sources.library
        library, files, problems, known = self._library(values), [], [], []
        for sha256 in values[widgets.results] or []:
            try:
                files.append(library.file(sha256))
            except MergeError as error:
                problems.append(str(error))
            if trigger := library.trigger(sha256):  # perhaps of a file beside it, which is gone
                known.append(Sidecar("library", "", frozenset({sha256}), (trigger,)))
        cards = list(values[self.listing.form.cards])
        added = self.listing.add_cards(values, files, cards, problems, sidecars=known)
        return added | {widgets.results: []}

    def forget(self, values: Values) -> Updates:
        """Delete the ticked files from the library; cards stay."""
        for sha256 in values[self.listing.sources.library.results] or []:
            self._library(values).forget(sha256)
        return self.search(values)

    def _library(self, values: Values) -> Library:
        return self.listing.studio.library(values[self.listing.form.session])


def wire_library(library_handlers: LibraryHandlers) -> Any:
    """Connect the section: it searches while the visitor types, and when it opens.

    Returns the event that adds files to the list.
    """
    listing = library_handlers.listing
    form, adding, widgets = listing.form, listing.adding, listing.sources.library
    outputs = {widgets.results, adding.problems}
    gr.on(
        [widgets.section.expand, widgets.search.change],
        library_handlers.search,
        library_handlers.inputs,
        outputs,
        trigger_mode="always_last",
        **AT_ONCE,
    )
    add, forget = listing.safely(library_handlers.add), listing.safely(library_handlers.forget)
    widgets.forget.click(forget, library_handlers.inputs, outputs, **AT_ONCE)
    listed = {*form.outputs, *outputs, *listing.bases.outputs}
    added = widgets.add.click(add, library_handlers.inputs, listed, **QUIET)
    added.then(listing.look, form.inputs, adding.conflicts, **LOOK)
    return added

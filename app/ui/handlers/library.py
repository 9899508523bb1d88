"""The library on the page: search what was added before, add it again, or delete it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from app.storage.library import Library
from app.ui.common import AT_ONCE, QUIET, Updates, Values
from app.ui.handlers.files import LOOK, FileHandlers, told
from merging.errors import MergeError

NEWEST, FITTING, NOTHING = "Added last", "Fitting, the best first", "Nothing fits"
EMPTY = "Nothing yet: what you add above is kept here"


@dataclass(frozen=True)
class LibraryHandlers:
    """The library's behaviour; what it adds goes onto the list like any file."""

    listing: FileHandlers

    @property
    def inputs(self) -> set[Any]:
        """The form's, and what was searched and ticked."""
        own = self.listing.adding.library
        return {*self.listing.form.inputs, own.search, own.found}

    def search(self, values: Values) -> Updates:
        """What fits the words, none of it ticked."""
        own, adding = self.listing.adding.library, self.listing.adding
        text = values[own.search] or ""
        try:
            begun = self.listing.studio.begun(values[self.listing.form.session])
            entries = self._library(values).search(text) if begun else []
        except MergeError as error:
            return {own.found: gr.CheckboxGroup([], value=[]), adding.problems: told([str(error)])}
        found, none = (FITTING, NOTHING) if text.strip() else (NEWEST, EMPTY)
        label = found if entries else none
        choices = [(entry.title, entry.sha256) for entry in entries]
        return {own.found: gr.CheckboxGroup(choices, value=[], label=label)}

    def add(self, values: Values) -> Updates:
        """The ticked ones onto the list."""
        own = self.listing.adding.library
        files, gone = [], []
        for sha256 in values[own.found] or []:
            try:
                files.append(self._library(values).file(sha256))
            except MergeError as error:
                gone.append(str(error))
        cards = list(values[self.listing.form.cards])
        return self.listing.added(values, files, cards, gone) | {own.found: []}

    def forget(self, values: Values) -> Updates:
        """The ticked ones out of the library; those on the list stay there."""
        for sha256 in values[self.listing.adding.library.found] or []:
            self._library(values).forget(sha256)
        return self.search(values)

    def _library(self, values: Values) -> Library:
        return self.listing.studio.library(values[self.listing.form.session])


def wire_library(shelving: LibraryHandlers) -> None:
    """Search while typing and when the section opens; then add or delete what is ticked."""
    listing = shelving.listing
    form, adding, own = listing.form, listing.adding, listing.adding.library
    shown = {own.found, adding.problems}
    gr.on(
        [own.section.expand, own.search.change],
        shelving.search,
        shelving.inputs,
        shown,
        trigger_mode="always_last",
        **AT_ONCE,
    )
    add, forget = listing.safely(shelving.add), listing.safely(shelving.forget)
    own.forget.click(forget, shelving.inputs, shown, **AT_ONCE)
    added = own.add.click(add, shelving.inputs, {*form.outputs, *shown}, **QUIET)
    added.then(listing.look, form.inputs, adding.conflicts, **LOOK)

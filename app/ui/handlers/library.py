"""The library: search files that were added before, add them again, or delete them.

The words of the search are looked up while the visitor types. CLIP, which takes a moment to load,
is asked for suggestions only: for the page's prompt, or for the search text after Enter.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from app.sidecars import Sidecar
from app.storage.library import Library
from app.ui.common import AT_ONCE, QUIET, Updates, Values, error_sentence
from app.ui.handlers.base_model import problems_html
from app.ui.handlers.files import LOOK, FileHandlers
from app.ui.handlers.library_packs import PackingHandlers, wire_packing
from merging.errors import MergeError
from merging.io.files import file_sha256

NEWEST, MATCHES, NO_MATCH = "Newest first", "Best matches first", "No matches"
FITTING, NONE_FITS = "These fit the prompt, the best first", "No other LoRA of yours fits"
NO_PROMPT = "Write a prompt first, or a scene into the search above"
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

    def suggest(self, values: Values) -> Updates:
        """Show what fits the page's prompt, and is not on the page."""
        return self._suggest(values, values[self.listing.form.draw_form.prompt] or "")

    def suggest_for_search(self, values: Values) -> Updates:
        """Show what fits the search text as a scene."""
        text = values[self.listing.sources.library.search] or ""
        return self._suggest(values, text) if text.strip() else self.search(values)

    def _suggest(self, values: Values, prompt: str) -> Updates:
        form, results = self.listing.form, self.listing.sources.library.results
        cards, studio = values[form.cards], self.listing.studio
        if not prompt.strip() or not studio.begun(values[form.session]):
            label = EMPTY if prompt.strip() else NO_PROMPT
            return {results: gr.CheckboxGroup([], value=[], label=label)}
        base = cards[0].base if cards else ""  # LoRAs of two bases cannot be merged
        found = self._library(values).suggest(
            prompt, studio.clip_reader, base, {card.sha256 for card in cards}
        )
        choices = [(suggestion.title, suggestion.entry.sha256) for suggestion in found]
        label = FITTING if found else NONE_FITS
        return {results: gr.CheckboxGroup(choices, value=[], label=label)}

    def add(self, values: Values) -> Updates:
        """Add the ticked files to the list."""
        widgets, form = self.listing.sources.library, self.listing.form
        session = self.listing.visit(values)
        values = values | {form.session: session}
        library, files, problems, known = self._library(values), [], [], []
        for sha256 in values[widgets.results] or []:
            try:
                entry, file = library.entry(sha256), self.listing.studio.lora(session, sha256)
            except MergeError as error:
                problems.append(error_sentence(error))
                continue
            files.append(file)
            hashes = {entry.sha256, *([file_sha256(file.path)] if entry.pack else [])}
            # both perhaps of files beside it, which are gone
            words = tuple(filter(None, [entry.trigger]))
            thumbnail = library.thumbnail(entry.sha256)
            known.append(Sidecar("library", "", frozenset(hashes), words, thumbnail=thumbnail))
        cards = list(values[form.cards])
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
    suggesting = [
        (widgets.suggest.click, library_handlers.suggest),
        (widgets.search.submit, library_handlers.suggest_for_search),
    ]
    for event, handler in suggesting:
        event(listing.safely(handler), library_handlers.inputs, outputs, **LOOK)
    add, forget = listing.safely(library_handlers.add), listing.safely(library_handlers.forget)
    widgets.forget.click(forget, library_handlers.inputs, outputs, **AT_ONCE)
    listed = {*form.outputs, *outputs, *listing.bases.outputs}
    added = widgets.add.click(add, library_handlers.inputs, listed, **QUIET)
    packing = PackingHandlers(listing, library_handlers.search)
    wire_packing(packing, library_handlers.inputs, outputs)
    added.then(listing.look, form.inputs, adding.conflicts, **LOOK)
    return added

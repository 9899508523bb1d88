"""The history: list, open again, run again, compare two, keep, delete."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import gradio as gr

from app.compare_merges import side_by_side
from app.jobs.queue import Step
from app.schemas.draw import DrawOrder, Picture
from app.service import Studio
from app.storage.history import GONE, History, OpenedEntry
from app.ui.common import AT_ONCE, QUIET, TO_STAGE, Updates, Values, updates_or_problem
from app.ui.handlers.files import LOOK, FileHandlers
from app.ui.handlers.jobs import Handlers, JobUpdates
from app.ui.handlers.open_entry import EntryOpener
from app.ui.html import fragments as markup
from app.ui.sections.history import PLACES, HistorySection, differences_html
from merging.errors import MergeError
from merging.io.files import tensors_sha256

SAME_MERGE = "Run again: the merge is the same as before, byte for byte."
OTHER_MERGE = "Run again: the merge has changed, as after an update or on another machine."
LETTERS = "AB"
NO_COMMON_PICTURES = (
    "These merges have no pictures with the same prompt, seed and settings. “Draw both anew” "
    "draws some, with the prompt and the seeds of the page."
)
BOTH_DRAWN = "Done: both are drawn, in the history."


@dataclass(frozen=True)
class HistoryHandlers:
    """The behaviour of the history section."""

    opener: EntryOpener
    past: HistorySection

    @property
    def handlers(self) -> Handlers:
        return self.opener.handlers

    @property
    def listing(self) -> FileHandlers:
        return self.opener.listing

    @property
    def studio(self) -> Studio:
        return self.handlers.studio

    @property
    def inputs(self) -> set[Any]:
        """The form, and the list with its ticks."""
        past = self.past
        ticks = {tick for place in past.places for tick in (place.ticked, place.pinned)}
        return {*self.handlers.form.inputs, past.entry_ids, past.start, *ticks}

    @property
    def list_outputs(self) -> set[Any]:
        """Everything that changes with the list of entries."""
        return {*self.past.outputs, self.handlers.form.draw_form.others}

    @property
    def compare_outputs(self) -> set[Any]:
        """Everything that changes when two entries are compared."""
        past = self.past
        return {self.handlers.form.session, past.message, past.differences, past.pairs}

    def look(self, values: Values) -> Updates:
        """Show the entries anew, from the same place in the list."""

        def work() -> Updates:
            updates = self._list_updates(values, values[self.past.start])
            return updates | self.handlers.offer_merges(values)

        return self._updates_or_problem(work)

    def turn(self, step: int) -> Callable[[Values], Updates]:
        """Show newer or older entries."""

        def show(values: Values) -> Updates:
            start = max(values[self.past.start] + step * PLACES, 0)
            return self._updates_or_problem(lambda: self._list_updates(values, start))

        return show

    def delete(self, place: int) -> Callable[[Values], Updates]:
        """Delete an entry with its files."""

        def delete_entry(values: Values) -> Updates:
            def work() -> Updates:
                self._history(values).forget(self._entry_id(values, place))
                return {self.past.message: gr.HTML(visible=False), **self.look(values)}

            return self._updates_or_problem(work)

        return delete_entry

    def pin(self, place: int) -> Callable[[Values], Updates]:
        """Keep an entry: neither the size limit nor the Delete button removes it; or no longer."""
        entry_place = self.past.places[place]

        def keep(values: Values) -> Updates:
            pinned = bool(values[entry_place.pinned])
            self._history(values).pin(self._entry_id(values, place), pinned)
            return {entry_place.delete: gr.Button(interactive=not pinned)}

        return lambda values: self._updates_or_problem(lambda: keep(values))

    def open(self, place: int) -> Callable[[Values], Updates]:
        """Show a merge and its pictures on the page again."""

        def show(values: Values) -> Updates:
            return self._updates_or_problem(
                lambda: self.opener.opened(values, self._entry_id(values, place))[1]
            )

        return show

    def open_cell(self, values: Values, event: gr.EventData) -> Updates:
        """Show a merge of a matrix on the page again."""
        return self.opener.open(values, int(event.choice))

    def run_again(self, place: int) -> Callable[[Values], Iterator[Updates]]:
        """Repeat a merge and its pictures."""

        def run(values: Values) -> Iterator[Updates]:
            yield from self.handlers.run_job(self._run_again(values, place), "Reading the files")

        return run

    def compare(self, values: Values) -> Updates:
        """Compare two entries: their settings, and pictures of the same prompt and seed."""
        return self._updates_or_problem(lambda: self._compare(values))

    def draw_both(self, values: Values) -> Iterator[Updates]:
        """Draw both merges with the prompts and seeds of the form."""
        updates = self._draw_both(values)
        lasting = self.compare_outputs
        yield from self.handlers.run_job(updates, "Getting ready to draw", BOTH_DRAWN, lasting)

    def _updates_or_problem(self, work: Callable[[], Updates]) -> Updates:
        """The updates of ``work``; its errors are shown above the section."""
        return updates_or_problem(self.past.message, work)

    def _history(self, values: Values) -> History:
        return self.studio.history(values[self.handlers.form.session])

    def _entry_id(self, values: Values, place: int) -> int:
        ids: list[int] = values[self.past.entry_ids]
        if place >= len(ids):
            raise MergeError(GONE)
        return ids[place]

    def _list_updates(self, values: Values, start: int) -> Updates:
        """The entries from ``start`` on, or the last ones if there are fewer."""
        if not self.studio.begun(values[self.handlers.form.session]):
            return self.past.show([], 0, 0, 0) | self.past.show_matrices([])
        history = self._history(values)
        count, size = history.size()
        last = max(count - 1, 0) // PLACES * PLACES
        start = min(start, last)
        entries = self.past.show(history.entries(start, PLACES), start, count, size)
        return entries | self.past.show_matrices(history.matrices(PLACES))

    def _run_again(self, values: Values, place: int) -> JobUpdates:
        opened, updates = self.opener.opened(values, self._entry_id(values, place))
        yield updates
        session, before = updates[self.handlers.form.session], tensors_sha256(opened.merged.kohya)
        merged = yield from self.handlers.run_merge(session, opened.merged.order)
        same = tensors_sha256(merged.kohya) == before
        note = markup.messages([SAME_MERGE if same else OTHER_MERGE])
        yield {self.past.message: gr.HTML(note, visible=True)}
        entry = yield from self.handlers.add_to_history(session, merged)
        if opened.scene:
            scene = replace(opened.scene, merged=merged.drawn_with)
            yield from self.handlers.run_drawing(session, merged, scene, entry)

    def _ticked_entries(self, values: Values, session: str) -> tuple[OpenedEntry, OpenedEntry]:
        """The two ticked entries, the older one first; MergeError unless there are two."""
        places = [place for place, each in enumerate(self.past.places) if values[each.ticked]]
        if len(places) != 2:
            raise MergeError(f"Tick two entries to compare; {len(places) or 'none'} are ticked.")
        newer, older = (
            self.studio.recall(session, self._entry_id(values, place)) for place in places
        )
        return older, newer

    def _compare(self, values: Values) -> Updates:
        """The differences, and the pictures of the same prompt and seed in pairs."""
        session = self.listing.visit(values)
        entries = self._ticked_entries(values, session)
        pairs = [
            (str(path), f"{letter} · {origin.prompt} · seed {origin.seed}")
            for origin, *paths in side_by_side(*entries)
            for letter, path in zip(LETTERS, paths, strict=True)
        ]
        note = "" if pairs else markup.paragraph("note", NO_COMMON_PICTURES)
        return {
            self.handlers.form.session: session,
            self.past.message: gr.HTML(visible=False),
            self.past.differences: gr.HTML(differences_html(*entries) + note, visible=True),
            self.past.pairs: gr.Gallery(pairs, visible=bool(pairs)),
        }

    def _draw_both(self, values: Values) -> JobUpdates:
        """Draw one merge after the other, from the same noise, and show the pictures in pairs."""
        form, session = self.handlers.form, self.listing.visit(values)
        entries = self._ticked_entries(values, session)
        columns: list[list[tuple[str, str]]] = []
        for letter, opened in zip(LETTERS, entries, strict=True):
            prompt, merged = values[form.draw_form.prompt], opened.merged
            order = form.draw_order(values, merged.order, prompt, merged)
            scene = replace(order, picks=opened.here, columns=("merged",), maps=False)
            pictures = yield from self._draw(session, scene)
            columns.append(
                [
                    (str(picture.path), f"{letter} · {prompt} · seed {seed}")
                    for picture, (prompt, seed) in zip(pictures, scene.scenes, strict=True)
                ]
            )
        pairs = [picture for pair in zip(*columns, strict=True) for picture in pair]
        yield {
            form.session: session,
            self.past.message: gr.HTML(visible=False),
            self.past.differences: gr.HTML(differences_html(*entries), visible=True),
            self.past.pairs: gr.Gallery(pairs, visible=True),
        }

    def _draw(self, session: str, scene: DrawOrder) -> Generator[Updates, None, list[Picture]]:
        """The pictures of one order."""
        pictures: list[Picture] = []
        with closing(self.studio.draw(session, scene)) as items:
            for item in items:
                if isinstance(item, Step):
                    yield {self.handlers.dock.status: markup.progress(item)}
                elif isinstance(item, Picture):
                    pictures.append(item)
        return pictures


def wire_history(history_handlers: HistoryHandlers, job: dict[str, Any]) -> list[Any]:
    """Connect the section and its buttons; returns the events that change the page's merge."""
    past, listing, inputs = history_handlers.past, history_handlers.listing, history_handlers.inputs
    list_outputs, open_outputs = history_handlers.list_outputs, history_handlers.opener.outputs
    past.newer.click(history_handlers.turn(-1), inputs, list_outputs, **AT_ONCE)
    past.older.click(history_handlers.turn(+1), inputs, list_outputs, **AT_ONCE)
    past.compare.click(history_handlers.compare, inputs, history_handlers.compare_outputs, **QUIET)
    draw_outputs = {*history_handlers.compare_outputs, *history_handlers.handlers.message_outputs}
    past.draw_both.click(history_handlers.draw_both, inputs, draw_outputs, **job)
    cell = past.matrices.select(history_handlers.open_cell, inputs, open_outputs, **QUIET)
    cell.then(None, js=TO_STAGE)
    cell.then(listing.look, listing.form.inputs, listing.adding.conflicts, **LOOK)
    events = [cell]
    for number, place in enumerate(past.places):
        place.delete.click(history_handlers.delete(number), inputs, list_outputs, **AT_ONCE)
        pin_outputs = {past.message, place.delete}
        place.pinned.input(history_handlers.pin(number), inputs, pin_outputs, **AT_ONCE)
        opened = place.open.click(history_handlers.open(number), inputs, open_outputs, **QUIET)
        run_outputs = {*open_outputs, *history_handlers.handlers.outputs}
        run = place.run_again.click(history_handlers.run_again(number), inputs, run_outputs, **job)
        opened.then(None, js=TO_STAGE)
        for event in (opened, run):
            event.then(listing.look, listing.form.inputs, listing.adding.conflicts, **LOOK)
        events += [opened, run]
    return events

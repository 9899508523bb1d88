"""What can be done with the history: look, open again, run again, compare two, delete."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import gradio as gr

from app.compare_merges import side_by_side
from app.jobs.queue import Step
from app.schemas.card import Card
from app.schemas.draw import DrawOrder, Picture
from app.service import Studio
from app.shell_commands import draw_commands
from app.storage.history import GONE, History, OpenedEntry
from app.ui.common import AT_ONCE, QUIET, Updates, Values, updates_or_problem
from app.ui.handlers.files import LOOK, FileHandlers
from app.ui.handlers.jobs import Handlers, JobUpdates, across
from app.ui.handlers.load_picture import PictureLoader
from app.ui.html import fragments as markup
from app.ui.sections.history import PLACES, HistorySection, differing
from merging.errors import MergeError

SAME = "Run again: the file is the same as before, byte for byte."
OTHER = (
    "Run again: the file is NOT the same as before, as after a change of program versions or of "
    "the machine."
)
LETTERS = "AB"
NO_PAIRS = (
    "They have no pictures of the same prompt, seed and settings. “Draw both anew” makes some, "
    "with the prompt and the seeds of step 3."
)
BOTH = "Done: both are drawn, in the history's section."


@dataclass(frozen=True)
class HistoryHandlers:
    """The history's behaviour, over its widgets, the form and the service."""

    listing: FileHandlers
    loader: PictureLoader
    handlers: Handlers
    past: HistorySection

    @property
    def studio(self) -> Studio:
        return self.handlers.studio

    @property
    def inputs(self) -> set[Any]:
        """The form's, and what is on the list."""
        past = self.past
        ticks = {tick for place in past.places for tick in (place.ticked, place.pinned)}
        return {*self.handlers.form.inputs, past.listed, past.start, *ticks}

    @property
    def filled(self) -> set[Any]:
        """What changes when an entry is opened."""
        form = self.handlers.form
        widgets = {*vars(form.base).values(), *form.options.all, *vars(form.scene).values()}
        own = {self.past.said, form.merged}
        return {*form.outputs, *widgets, *self.handlers.results.outputs, *own}

    @property
    def listed(self) -> set[Any]:
        """What changes when there is more, or less, in the history."""
        return {*self.past.outputs, self.handlers.form.scene.others}

    @property
    def compared(self) -> set[Any]:
        """What changes when two are compared."""
        past = self.past
        return {self.handlers.form.session, past.said, past.differences, past.pairs}

    def look(self, values: Values) -> Updates:
        """The list as it is now, from where it stood."""

        def work() -> Updates:
            return self._list_updates(values, values[self.past.start]) | self.handlers.offer(values)

        return self._updates_or_problem(work)

    def turn(self, step: int) -> Callable[[Values], Updates]:
        """Newer or older entries."""

        def to(values: Values) -> Updates:
            start = max(values[self.past.start] + step * PLACES, 0)
            return self._updates_or_problem(lambda: self._list_updates(values, start))

        return to

    def forget(self, place: int) -> Callable[[Values], Updates]:
        """Delete an entry with its files."""

        def delete(values: Values) -> Updates:
            def work() -> Updates:
                self._history(values).forget(self._entry(values, place))
                return {self.past.said: gr.HTML(visible=False), **self.look(values)}

            return self._updates_or_problem(work)

        return delete

    def pin(self, place: int) -> Callable[[Values], Updates]:
        """Keep an entry from the limit, and from being deleted by mistake; or no longer."""
        own = self.past.places[place]

        def keep(values: Values) -> Updates:
            wanted = bool(values[own.pinned])
            self._history(values).pin(self._entry(values, place), wanted)
            return {own.forget: gr.Button(interactive=not wanted)}

        return lambda values: self._updates_or_problem(lambda: keep(values))

    def open(self, place: int) -> Callable[[Values], Updates]:
        """Put a merge with its pictures back on the page."""
        return lambda values: self._updates_or_problem(lambda: self._opened(values, place)[1])

    def run(self, place: int) -> Callable[[Values], Iterator[Updates]]:
        """Make a merge and its pictures once more."""

        def again(values: Values) -> Iterator[Updates]:
            yield from self.handlers.shown(self._again(values, place), "Reading the files")

        return again

    def compare(self, values: Values) -> Updates:
        """Two entries: where they differ, and their pictures that were drawn alike."""
        return self._updates_or_problem(lambda: self._compared(values))

    def draw_both(self, values: Values) -> Iterator[Updates]:
        """Both merges with the prompts and seeds of the form."""
        updates = self._drawn(values)
        yield from self.handlers.shown(updates, "Getting ready to draw", BOTH, self.compared)

    def _updates_or_problem(self, work: Callable[[], Updates]) -> Updates:
        """What the work changes; what goes wrong is said above the section."""
        return updates_or_problem(self.past.said, work)

    def _history(self, values: Values) -> History:
        return self.studio.history(values[self.handlers.form.session])

    def _entry(self, values: Values, place: int) -> int:
        listed: list[int] = values[self.past.listed]
        if place >= len(listed):
            raise MergeError(GONE)
        return listed[place]

    def _list_updates(self, values: Values, start: int) -> Updates:
        """Entries from ``start`` on, or the last ones where there are not so many."""
        if not self.studio.begun(values[self.handlers.form.session]):
            return self.past.shown([], 0, 0, 0)
        history = self._history(values)
        count, size = history.size()
        last = max(count - 1, 0) // PLACES * PLACES
        start = min(start, last)
        return self.past.shown(history.entries(start, PLACES), start, count, size)

    def _opened(self, values: Values, place: int) -> tuple[OpenedEntry, Updates]:
        """An entry, and the page with it."""
        session = self.listing.visit(values)
        kept = self.studio.recall(session, self._entry(values, place))
        cards: list[Card] = []
        for pick in (*kept.here, *kept.merged.order.words):
            name = f"{pick.name}.safetensors"
            cards.append(self.studio.add(session, pick.path, cards, name, pick.origin))
        gone = [pick.name for pick in kept.merged.order.picks if pick not in kept.here]
        said = [f"{name} is no longer in your library: add its file." for name in gone]
        note = markup.messages(["It is back on the page, in the four steps above.", *said])
        updates = {
            self.handlers.form.session: session,
            **self._form(values, kept, cards),
            **self._results(kept),
            self.past.said: gr.HTML(note, visible=True),
        }
        return kept, updates | self.handlers.offer({**values, **updates})

    def _form(self, values: Values, kept: OpenedEntry, cards: list[Card]) -> Updates:
        """Cards, options and scene as they were; the cards stay if none of the LoRAs is here."""
        form, order = self.handlers.form, kept.merged.order
        based = form.base.filled(order.base)
        updates: Updates = {**based, **form.options.show(kept.merged.recipe)}
        updates |= {form.options.dtype: order.dtype}
        if cards:
            picks = (*kept.here, *order.words)
            updates |= form.filled(cards, picks, {**values, **based})
        if kept.scene:
            updates |= form.scene.drawn(kept.scene) | {form.suggested: ""}
        return updates

    def _results(self, kept: OpenedEntry) -> Updates:
        """Files and pictures."""
        results = self.handlers.results
        drawn = list(kept.pictures)
        updates = {self.handlers.form.merged: kept.merged, **results.files.merged(kept.merged)}
        if not kept.scene or not drawn:
            return updates | results.views.cleared()
        scene = kept.scene
        updates |= results.views.pictures(drawn, across(scene), scene.of_the_merge)
        return updates | results.views.compared(drawn, draw_commands(scene))

    def _again(self, values: Values, place: int) -> JobUpdates:
        kept, updates = self._opened(values, place)
        yield updates
        session, before = updates[self.handlers.form.session], kept.merged.kohya.read_bytes()
        merged = yield from self.handlers.merging(session, kept.merged.order)
        note = markup.messages([SAME if merged.kohya.read_bytes() == before else OTHER])
        yield {self.past.said: gr.HTML(note, visible=True)}
        entry = yield from self.handlers.remembered(session, merged)
        if kept.scene:
            scene = replace(kept.scene, merged=merged.drawn_with)
            yield from self.handlers.drawing(session, merged, scene, entry)

    def _both(self, values: Values, session: str) -> tuple[OpenedEntry, OpenedEntry]:
        """The two ticked entries, the older one first."""
        places = [place for place, each in enumerate(self.past.places) if values[each.ticked]]
        if len(places) != 2:
            raise MergeError(f"Tick two entries to compare; {len(places) or 'none'} are ticked.")
        newer, older = (self.studio.recall(session, self._entry(values, place)) for place in places)
        return older, newer

    def _compared(self, values: Values) -> Updates:
        """What differs, and the pictures that were drawn alike."""
        session = self.listing.visit(values)
        both = self._both(values, session)
        pairs = [
            (str(path), f"{letter} · {origin.prompt} · seed {origin.seed}")
            for origin, *paths in side_by_side(*both)
            for letter, path in zip(LETTERS, paths, strict=True)
        ]
        note = "" if pairs else markup.paragraph("note", NO_PAIRS)
        return {
            self.handlers.form.session: session,
            self.past.said: gr.HTML(visible=False),
            self.past.differences: gr.HTML(differing(*both) + note, visible=True),
            self.past.pairs: gr.Gallery(pairs, visible=bool(pairs)),
        }

    def _drawn(self, values: Values) -> JobUpdates:
        """Both merges from the same noise; one after the other, laid in pairs."""
        form, session = self.handlers.form, self.listing.visit(values)
        both = self._both(values, session)
        columns: list[list[tuple[str, str]]] = []
        for letter, kept in zip(LETTERS, both, strict=True):
            asked = form.draw_order(values, kept.merged, values[form.scene.prompt])
            scene = replace(asked, picks=kept.here, columns=("merged",), maps=False)
            drawn = yield from self._sheet(session, scene)
            columns.append(
                [
                    (str(picture.path), f"{letter} · {prompt} · seed {seed}")
                    for picture, (prompt, seed) in zip(drawn, scene.scenes, strict=True)
                ]
            )
        pairs = [each for pair in zip(*columns, strict=True) for each in pair]
        yield {
            form.session: session,
            self.past.said: gr.HTML(visible=False),
            self.past.differences: gr.HTML(differing(*both), visible=True),
            self.past.pairs: gr.Gallery(pairs, visible=True),
        }

    def _sheet(self, session: str, scene: DrawOrder) -> Generator[Updates, None, list[Picture]]:
        """The pictures of one order."""
        drawn: list[Picture] = []
        with closing(self.studio.draw(session, scene)) as items:
            for item in items:
                if isinstance(item, Step):
                    yield {self.handlers.dock.status: markup.progress(item)}
                elif isinstance(item, Picture):
                    drawn.append(item)
        return drawn


def wire_history(recalling: HistoryHandlers, job: dict[str, Any]) -> None:
    """The list comes when the section opens; then every button does what it says."""
    past, listing, inputs = recalling.past, recalling.listing, recalling.inputs
    shown, filled = recalling.listed, recalling.filled
    past.section.expand(recalling.look, inputs, shown, **AT_ONCE)
    past.newer.click(recalling.turn(-1), inputs, shown, **AT_ONCE)
    past.older.click(recalling.turn(+1), inputs, shown, **AT_ONCE)
    past.compare.click(recalling.compare, inputs, recalling.compared, **QUIET)
    working = {*recalling.compared, *recalling.handlers.said}
    past.draw_both.click(recalling.draw_both, inputs, working, **job)
    for number, place in enumerate(past.places):
        place.forget.click(recalling.forget(number), inputs, shown, **AT_ONCE)
        kept = {past.said, place.forget}
        place.pinned.input(recalling.pin(number), inputs, kept, **AT_ONCE)
        opened = place.open.click(recalling.open(number), inputs, filled, **QUIET)
        again = place.again.click(
            recalling.run(number), inputs, {*filled, *recalling.handlers.outputs}, **job
        )
        again.then(recalling.look, inputs, shown, **AT_ONCE)
        for event in (opened, again):
            event.then(listing.look, listing.form.inputs, listing.adding.conflicts, **LOOK)

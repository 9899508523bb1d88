"""Files are added, removed and moved, and how the LoRAs meet is shown."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from app.a1111_prompt import apply_prompt
from app.examples import Example
from app.schemas.card import Card
from app.schemas.merge import SelectedFile
from app.service import Studio
from app.sidecars import Sidecar, described, unused
from app.ui.common import (
    AT_ONCE,
    QUIET,
    Updates,
    Values,
    current_client,
    error_sentence,
    logged_sentence,
    updates_or_problem,
)
from app.ui.handlers.base_model import BaseHandlers, problems_html
from app.ui.handlers.calibration_prompts import CalibrationPrompts
from app.ui.handlers.drop import offered, redescribed, sort_drop
from app.ui.handlers.form import Form
from app.ui.handlers.load_picture import PictureLoader
from app.ui.html import fragments as markup
from app.ui.html.conflict_table import conflict_table
from app.ui.html.lora_card import row_html
from app.ui.sections.add_files import FETCH, AddFilesSection, OtherSources
from app.ui.sections.lora_drawer import CLOSED
from merging.base_models import MINI
from merging.errors import MergeError
from merging.io.hub import NamedFile

MAX_FETCHES = 4  # downloads from the Hub at a time
# Reading large files takes a moment: one at a time, and only the newest of several requests.
LOOK: dict[str, Any] = {**QUIET, "concurrency_id": "look", "trigger_mode": "always_last"}


@dataclass(frozen=True)
class FileHandlers:
    """The behaviour of the rows and of all that adds to them."""

    studio: Studio
    form: Form
    adding: AddFilesSection
    loader: PictureLoader
    sources: OtherSources

    @property
    def bases(self) -> BaseHandlers:
        """How files and visitor choose the base model."""
        return BaseHandlers(self.studio, self.form, self.adding)

    def add_files(self, values: Values) -> Updates:
        """Take what was dropped: LoRAs with what lies beside them, and pictures drawn here."""
        cards: list[Card] = list(values[self.form.cards])
        paths = [Path(path) for path in values[self.adding.upload] or []]
        drop = sort_drop(paths, [card.name for card in cards])
        values = values | {self.form.session: self.visit(values, cards)}
        loras, offer = offered(
            self.studio, values[self.form.session], self.adding.packs, drop.loras
        )
        files = [NamedFile(path, path.name) for path in loras]
        updates = self.add_cards(values, files, cards, drop.problems, sidecars=drop.sidecars)
        for picture in drop.drawn_here:
            updates |= self._load_picture(picture, values | updates)
        return updates | offer | {self.adding.upload: None}

    def _load_picture(self, path: Path, values: Values) -> Updates:
        """The settings of a picture, and a sentence on it."""
        updates, sentence = self.loader.load(path, values)
        return updates | {self.adding.problems: gr.HTML(markup.messages([sentence]), visible=True)}

    def fetch(self, values: Values) -> Iterator[Updates]:
        """Download a file from the Hub and add its card; the text box is emptied on success."""
        box, button = self.adding.hub.source, self.adding.hub.fetch
        if not (values[box] or "").strip():
            return
        yield {button: gr.Button("Fetching…", interactive=False)}

        def work() -> Updates:
            cards = list(values[self.form.cards])
            session = self.visit(values, cards)
            file = self.studio.fetch(session, values[box])
            return {box: ""} | self.add_cards(values | {self.form.session: session}, [file], cards)

        done = {button: gr.Button(FETCH, interactive=True)}
        yield done | updates_or_problem(self.adding.problems, work)

    def example(self, example: Example) -> Callable[[Values], Updates]:
        """Replace the list by a bundled pair, with the prompt and seed of its comparison."""
        form, shown = self.form, example.comparison

        def load(values: Values) -> Updates:
            prompt = shown.prompt if shown else ""
            first = self.bases.updates_for(MINI.name)
            first |= {form.draw_form.seed: shown.seed if shown else 0}
            written = {form.draw_form.prompt: prompt, form.suggested: prompt}
            files = [NamedFile(path, path.name) for path in example.files]
            return first | self.add_cards(values | first | written, files, [], keep=False)

        return self.safely(load)

    def toggle(self, place: int) -> Callable[[Values], Updates]:
        """Open the drawer for one LoRA, or close it."""
        return self.safely(lambda values: self.form.toggle(place, values))

    def close(self, values: Values) -> Updates:
        """Close the drawer."""
        return self.form.toggle(self.form.opened(values), values)

    def remove(self, values: Values) -> Updates:
        """Remove the LoRA in the drawer; the others keep their settings."""
        cards, picks = list(values[self.form.cards]), list(self.form.picks(values))
        if (place := self.form.opened(values)) in range(len(cards)):
            del cards[place], picks[place]
        return self.form.card_updates(cards, tuple(picks), values, CLOSED) | {
            self.adding.problems: problems_html([]),
            **self.bases.unify_update(cards),
        }

    def move(self, step: int) -> Callable[[Values], Updates]:
        """Swap the LoRA in the drawer with the one before or after it."""

        def swap(values: Values) -> Updates:
            cards, picks = list(values[self.form.cards]), list(self.form.picks(values))
            place = self.form.opened(values)
            other = place + step
            if not {place, other} <= set(range(len(cards))):
                return {}
            for items in (cards, picks):
                items[place], items[other] = items[other], items[place]
            return self.form.card_updates(cards, tuple(picks), values, other)

        return self.safely(swap)

    def switch(self, values: Values) -> Updates:
        """The row of the LoRA in the drawer, by whether it is used."""
        picks, place = self.form.picks(values), self.form.opened(values)
        used = place in range(len(picks))
        return self.form.rows[place].mark(picks[place].on, opened=True) if used else {}

    def safely(self, work: Callable[[Values], Updates]) -> Callable[[Values], Updates]:
        """The same handler; its errors are shown above the list."""
        return lambda values: updates_or_problem(self.adding.problems, lambda: work(values))

    def paste(self, values: Values) -> Updates:
        """Fill in strengths and prompt from an A1111 prompt."""
        try:
            pasted_prompt = apply_prompt(values[self.sources.prompt] or "", self.form.picks(values))
        except MergeError as error:
            return {self.sources.paste_message: problems_html([str(error)])}
        prompt = self.form.draw_form.prompt
        return {
            **self.form.card_updates(list(values[self.form.cards]), pasted_prompt.picks, values),
            **({prompt: pasted_prompt.prompt} if pasted_prompt.prompt else {}),
            self.sources.paste_message: gr.HTML(markup.messages(pasted_prompt.notes), visible=True),
        }

    def look(self, values: Values) -> Updates:
        """Show the conflicts of the LoRAs at their present strengths."""
        cards = values[self.form.cards]
        try:
            report = self.studio.meetings(cards, self.form.picks(values) if cards else ())
            text = conflict_table(report)
        except MergeError as error:
            text = markup.problem_list([str(error)])
        return {self.adding.conflicts: gr.HTML(text, visible=bool(text))}

    def change_trigger(self, values: Values) -> Updates:
        """Other trigger words: on the row, in the prompt that the page wrote, and in its chips."""
        form, cards, picks = self.form, values[self.form.cards], self.form.picks(values)
        if (place := form.opened(values)) not in range(len(cards)):
            return {}
        written = form.prompt_update(values, form.prompt(values, picks))
        info = row_html(cards[place], form.base.name(values), picks[place].trigger)
        return {form.rows[place].info: info, **written, **form.chip_update(values | written)}

    def add_cards(
        self,
        values: Values,
        files: Sequence[NamedFile],
        cards: list[Card],
        problems: Sequence[str] = (),
        keep: bool = True,
        sidecars: Sequence[Sidecar] = (),
    ) -> Updates:
        """Add files to a list of cards, and to the library unless ``keep`` is False.

        ``problems`` are shown together with those of the files. ``sidecars`` describe these files
        or those that are there.
        """
        session = self.visit(values, cards)
        picks = list(self.form.picks(values)) if cards else []
        sentences, before = list(problems), len(cards)
        cards, picks = redescribed(cards, picks, sidecars)
        for file in files:
            try:
                added = self.studio.add(session, file.path, cards, file.name, file.origin)
                card = described(added, sidecars)
            except MergeError as error:
                sentences.append(error_sentence(error))
            except Exception as error:  # noqa: BLE001 -- it is logged
                said = logged_sentence(error, "a file could not be read")
                sentences.append(f"{file.name}: {said}")
            else:
                cards = [*cards, card]
                picks.append(SelectedFile.of(card))
                sentences += filter(None, [self.studio.keep(session, card)] if keep else [])
        sentences += unused(sidecars, cards)
        base, notes = self.bases.for_cards(values, cards) if len(cards) > before else ({}, [])
        return {
            self.form.session: session,
            self.adding.problems: problems_html(sentences, notes),
            **base,
            **self.form.card_updates(cards, tuple(picks), values | base),
            **self.bases.unify_update(cards),
        }

    def visit(self, values: Values, cards: Sequence[Card] = ()) -> str:
        """The session's token; an expired session is replaced if the list is empty."""
        session: str = values[self.form.session]
        if cards or self.studio.store.is_open(session):
            return session
        return self.studio.open_session(current_client())


def wire_files(listing: FileHandlers) -> list[Any]:
    """Connect the section; returns the events that change the list of files.

    Conflicts are computed anew after every change.
    """
    form, adding = listing.form, listing.adding
    changed = {*form.outputs, *listing.bases.outputs}
    upload = adding.upload
    hub = adding.hub
    events = [
        gr.on(
            [hub.fetch.click, hub.source.submit],
            listing.fetch,
            {*form.inputs, hub.source},
            {*changed, hub.source, hub.fetch},
            concurrency_limit=MAX_FETCHES,
            **QUIET,
        ),
        upload.upload(
            listing.safely(listing.add_files),
            {*form.inputs, upload},
            {*changed, upload, *listing.loader.outputs, *adding.packs.outputs},
            **QUIET,
        ),
        listing.sources.paste.click(
            listing.paste,
            {*form.inputs, listing.sources.prompt},
            {*form.outputs, listing.sources.paste_message},
            **AT_ONCE,
        ),
    ]
    unified = adding.unify.click(
        listing.safely(listing.bases.unify), form.inputs, changed, **AT_ONCE
    )
    events.append(unified)
    events += _wire_drawer(listing)
    form.base.radio.input(listing.safely(listing.bases.change), form.inputs, changed, **AT_ONCE)
    for event in events:
        event.then(listing.look, form.inputs, adding.conflicts, **LOOK)
    strengths = [*(row.strength.release for row in form.rows), *form.drawer.strength_events]
    gr.on(strengths, listing.look, form.inputs, adding.conflicts, **LOOK)
    return events


def _wire_drawer(listing: FileHandlers) -> list[Any]:
    """Connect the drawer and what opens it; returns the events that change the list."""
    form, drawer, safely = listing.form, listing.form.drawer, listing.safely
    problems, groups = listing.adding.problems, {row.group for row in form.rows}
    changed = {*form.outputs, *listing.bases.outputs}
    opened = {form.settled, *groups, *drawer.widgets, problems}
    for place, row in enumerate(form.rows):
        row.more.click(listing.toggle(place), form.inputs, opened, **AT_ONCE)
    drawer.close.click(safely(listing.close), form.inputs, opened, **AT_ONCE)
    drawer.on.input(safely(listing.switch), form.inputs, {*groups, problems}, **AT_ONCE)
    infos = {row.info for row in form.rows}
    written = {*infos, form.suggested, form.draw_form.prompt, form.chips, problems}
    drawer.trigger.input(safely(listing.change_trigger), form.inputs, written, **AT_ONCE)
    lines, prompts = {drawer.prompts, problems}, CalibrationPrompts(listing.studio, form)
    drawer.write_out.click(safely(prompts.templates), form.inputs, lines, **AT_ONCE)
    drawer.captions.click(safely(prompts.captions), form.inputs, lines, **AT_ONCE)
    drawer.up.click(listing.move(-1), form.inputs, changed, **AT_ONCE)
    drawer.down.click(listing.move(+1), form.inputs, changed, **AT_ONCE)
    return [drawer.remove.click(safely(listing.remove), form.inputs, changed, **AT_ONCE)]

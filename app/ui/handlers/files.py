"""What happens to the list of LoRAs: files come, go, move and are looked at."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from app.a1111_prompt import pasted
from app.examples import Example
from app.prompts import template_prompts
from app.schemas.card import Card
from app.schemas.merge import SelectedFile
from app.service import Studio
from app.ui.common import AT_ONCE, QUIET, Updates, Values, error_sentence, updates_or_problem
from app.ui.handlers.form import Form
from app.ui.html import fragments as markup
from app.ui.html.conflict_table import conflict_table
from app.ui.sections.add_files import FETCH, AddFilesSection
from app.ui.sections.lora_card import LoraCard
from merging.base_models import MINI, base_model
from merging.calibration.prompts import tag_prompts
from merging.errors import MergeError
from merging.io.hub import Found

# Reading large files takes a moment: off the page's way, and only the last of several wishes.
FETCHES = 4  # files of the Hub that are fetched at a time
log = logging.getLogger(__name__)
LOOK: dict[str, Any] = {**QUIET, "concurrency_id": "look", "trigger_mode": "always_last"}


@dataclass(frozen=True)
class FileHandlers:
    """The first step's behaviour, over its widgets and the service."""

    studio: Studio
    form: Form
    adding: AddFilesSection

    def add_files(self, values: Values) -> Updates:
        """Uploaded files become cards; what cannot be taken is said in one sentence each."""
        files = [Found(Path(path), Path(path).name) for path in values[self.adding.upload] or []]
        return self.added(values, files, list(values[self.form.cards])) | {self.adding.upload: None}

    def fetch(self, values: Values) -> Iterator[Updates]:
        """A file of the Hub becomes a card; the box is emptied once it is there."""
        box, button = self.adding.hub.place, self.adding.hub.fetch
        if not (values[box] or "").strip():
            return
        yield {button: gr.Button("Fetching…", interactive=False)}

        def work() -> Updates:
            cards = list(values[self.form.cards])
            session = self.visit(values, cards)
            file = self.studio.fetch(session, values[box])
            return {box: ""} | self.added(values | {self.form.session: session}, [file], cards)

        done = {button: gr.Button(FETCH, interactive=True)}
        yield done | updates_or_problem(self.adding.problems, work)

    def example(self, shown: Example) -> Callable[[Values], Updates]:
        """Put a bundled pair in the place of whatever is there."""

        def load(values: Values) -> Updates:
            radio = self.form.base.radio
            fresh = values | {radio: MINI.name, self.form.scene.prompt: ""}
            files = [Found(path, path.name) for path in shown.files]
            return self.added(fresh, files, [], keep=False) | {radio: MINI.name}

        return self.safely(load)

    def remove(self, place: int) -> Callable[[Values], Updates]:
        """Take one LoRA off the list; the others keep what was typed."""

        def take(values: Values) -> Updates:
            cards, picks = list(values[self.form.cards]), list(self.form.picks(values))
            del cards[place : place + 1], picks[place : place + 1]
            return self.form.filled(cards, tuple(picks), values) | {self.adding.problems: told([])}

        return self.safely(take)

    def move(self, place: int, step: int) -> Callable[[Values], Updates]:
        """Let one LoRA change places with the one before or after it."""

        def swap(values: Values) -> Updates:
            cards, picks = list(values[self.form.cards]), list(self.form.picks(values))
            other = place + step
            if not 0 <= other < len(cards):
                return {}
            for listed in (cards, picks):
                listed[place], listed[other] = listed[other], listed[place]
            return self.form.filled(cards, tuple(picks), values)

        return self.safely(swap)

    def safely(self, work: Callable[[Values], Updates]) -> Callable[[Values], Updates]:
        """The same, and what goes wrong is said above the list."""
        return lambda values: updates_or_problem(self.adding.problems, lambda: work(values))

    def write_out(self, place: int) -> Callable[[Values], Updates]:
        """The template sentences of one concept as lines that can be edited."""
        return self._lines(place, self._templates)

    def use_captions(self, place: int) -> Callable[[Values], Updates]:
        """Lines from the captions that one file was trained with."""
        return self._lines(
            place, lambda _values, found, pick: tag_prompts(pick.trigger, found.captions)
        )

    def paste(self, values: Values) -> Updates:
        """Fill the strengths from an A1111 prompt, and the prompt with its other words."""
        try:
            found = pasted(values[self.adding.prompt] or "", self.form.picks(values))
        except MergeError as error:
            return {self.adding.pasted: gr.HTML(markup.problem_list([str(error)]), visible=True)}
        scene = self.form.scene.prompt
        return {
            **self.form.filled(list(values[self.form.cards]), found.picks, values),
            **({scene: found.prompt} if found.prompt else {}),
            self.adding.pasted: gr.HTML(markup.messages(found.said), visible=True),
        }

    def look(self, values: Values) -> Updates:
        """Where the LoRAs meet, at their strengths as they are now."""
        cards = values[self.form.cards]
        try:
            met = self.studio.meetings(cards, self.form.picks(values) if cards else ())
            text = conflict_table(met)
        except MergeError as error:
            text = markup.problem_list([str(error)])
        return {self.adding.conflicts: gr.HTML(text, visible=bool(text))}

    def rebase(self, values: Values) -> Updates:
        """Another base was chosen: the cards say whether they fit it, and it draws its own way."""
        form = self.form
        drawn = {form.scene.guidance: base_model(form.base.name(values)).guidance}
        return form.filled(values[form.cards], form.picks(values), values) | drawn

    def _lines(
        self, place: int, lines: Callable[[Values, Card, SelectedFile], tuple[str, ...]]
    ) -> Callable[[Values], Updates]:
        """Put lines into one concept's prompts."""

        def fill(values: Values) -> Updates:
            pick = self.form.picks(values)[place]
            made = lines(values, values[self.form.cards][place], pick)
            most = self.studio.settings.max_lines
            text = "\n".join(made[:most])
            return {self.form.slots[place].prompts: text, self.adding.problems: told([])}

        return self.safely(fill)

    def _templates(self, values: Values, _found: Card, pick: SelectedFile) -> tuple[str, ...]:
        options = self.form.options
        count, seed = int(values[options["samples"]]), int(values[options["seed"]] or 0)
        return template_prompts(pick.trigger, count, seed)

    def added(
        self,
        values: Values,
        files: Sequence[Found],
        cards: list[Card],
        refused: Sequence[str] = (),
        keep: bool = True,
    ) -> Updates:
        """Files onto a list of cards; ``refused`` is what is to be said too.

        What the visitor brought is kept in the library.
        """
        session = self.visit(values, cards)
        picks = list(self.form.picks(values)) if cards else []
        said = list(refused)
        for file in files:
            try:
                found = self.studio.add(session, file.path, cards, file.name, file.origin)
            except MergeError as error:
                said.append(error_sentence(error))
            except Exception as error:
                log.exception("a file could not be looked at")
                said.append(f"{file.name}: {error_sentence(error)}")
            else:
                cards = [*cards, found]
                picks.append(SelectedFile.of(found))
                said += filter(None, [self.studio.keep(session, found)] if keep else [])
        return {
            self.form.session: session,
            self.adding.problems: told(said),
            **self.form.filled(cards, tuple(picks), values),
        }

    def visit(self, values: Values, cards: Sequence[Card] = ()) -> str:
        """The visit's token; a list that is begun anew may begin a new visit."""
        session: str = values[self.form.session]
        if cards or self.studio.store.is_open(session):
            return session
        return self.studio.open_session()


def told(refused: list[str]) -> gr.HTML:
    """The list of files that were not taken, nothing where all were."""
    return gr.HTML(markup.problem_list(refused), visible=bool(refused))


def wire_files(listing: FileHandlers) -> None:
    """Files come, go, move and are filled in; whatever changes, conflicts are looked at anew."""
    form, adding = listing.form, listing.adding
    changed = {*form.outputs, adding.problems}
    upload = adding.upload
    hub = adding.hub
    events = [
        gr.on(
            [hub.fetch.click, hub.place.submit],
            listing.fetch,
            {*form.inputs, hub.place},
            {*changed, hub.place, hub.fetch},
            concurrency_limit=FETCHES,
            **QUIET,
        ),
        upload.upload(
            listing.safely(listing.add_files), {*form.inputs, upload}, {*changed, upload}, **QUIET
        ),
        adding.paste.click(
            listing.paste,
            {*form.inputs, adding.prompt},
            {*form.outputs, adding.pasted},
            **AT_ONCE,
        ),
    ]
    for place, slot in enumerate(form.slots):
        events += _wire_slot(listing, place, slot)
    rebased = {*changed, form.scene.guidance}
    form.base.radio.input(listing.safely(listing.rebase), form.inputs, rebased, **AT_ONCE)
    for event in events:
        event.then(listing.look, form.inputs, adding.conflicts, **LOOK)
    look_again = [each for slot in form.slots for each in slot.weighing]
    gr.on(look_again, listing.look, form.inputs, adding.conflicts, **LOOK)


def _wire_slot(listing: FileHandlers, place: int, slot: LoraCard) -> list[Any]:
    """The buttons of one card; returned are the events that change the list."""
    form = listing.form
    changed = {*form.outputs, listing.adding.problems}
    lines = {slot.prompts, listing.adding.problems}
    slot.write_out.click(listing.write_out(place), form.inputs, lines, **AT_ONCE)
    slot.captions.click(listing.use_captions(place), form.inputs, lines, **AT_ONCE)
    slot.up.click(listing.move(place, -1), form.inputs, changed, **AT_ONCE)
    slot.down.click(listing.move(place, +1), form.inputs, changed, **AT_ONCE)
    return [slot.remove.click(listing.remove(place), form.inputs, changed, **AT_ONCE)]

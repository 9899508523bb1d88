"""Step 1: files are added, removed and moved, and conflicts between them are shown."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from app.a1111_prompt import apply_prompt
from app.examples import Example
from app.prompts import template_prompts
from app.schemas.card import Card
from app.schemas.merge import SelectedFile
from app.service import Studio
from app.ui.common import (
    AT_ONCE,
    QUIET,
    Updates,
    Values,
    current_client,
    error_sentence,
    updates_or_problem,
)
from app.ui.handlers.form import Form
from app.ui.html import fragments as markup
from app.ui.html.conflict_table import conflict_table
from app.ui.sections.add_files import FETCH, AddFilesSection
from app.ui.sections.lora_card import LoraCard
from merging.base_models import MINI, base_model
from merging.calibration.prompts import tag_prompts
from merging.errors import MergeError
from merging.io.hub import NamedFile

MAX_FETCHES = 4  # downloads from the Hub at a time
log = logging.getLogger(__name__)
# Reading large files takes a moment: one at a time, and only the newest of several requests.
LOOK: dict[str, Any] = {**QUIET, "concurrency_id": "look", "trigger_mode": "always_last"}


@dataclass(frozen=True)
class FileHandlers:
    """The behaviour of step 1."""

    studio: Studio
    form: Form
    adding: AddFilesSection

    def add_files(self, values: Values) -> Updates:
        """Add a card for each uploaded file, and one sentence for each that is refused."""
        files = [
            NamedFile(Path(path), Path(path).name) for path in values[self.adding.upload] or []
        ]
        return self.add_cards(values, files, list(values[self.form.cards])) | {
            self.adding.upload: None
        }

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
        """Replace the list by a bundled pair."""

        def load(values: Values) -> Updates:
            radio = self.form.base.radio
            new_values = values | {radio: MINI.name, self.form.draw_form.prompt: ""}
            files = [NamedFile(path, path.name) for path in example.files]
            return self.add_cards(new_values, files, [], keep=False) | {radio: MINI.name}

        return self.safely(load)

    def remove(self, place: int) -> Callable[[Values], Updates]:
        """Remove one LoRA; the others keep their settings."""

        def take(values: Values) -> Updates:
            cards, picks = list(values[self.form.cards]), list(self.form.picks(values))
            del cards[place : place + 1], picks[place : place + 1]
            return self.form.card_updates(cards, tuple(picks), values) | {
                self.adding.problems: problems_html([])
            }

        return self.safely(take)

    def move(self, place: int, step: int) -> Callable[[Values], Updates]:
        """Swap one LoRA with the one before or after it."""

        def swap(values: Values) -> Updates:
            cards, picks = list(values[self.form.cards]), list(self.form.picks(values))
            other = place + step
            if not 0 <= other < len(cards):
                return {}
            for items in (cards, picks):
                items[place], items[other] = items[other], items[place]
            return self.form.card_updates(cards, tuple(picks), values)

        return self.safely(swap)

    def safely(self, work: Callable[[Values], Updates]) -> Callable[[Values], Updates]:
        """The same handler; its errors are shown above the list."""
        return lambda values: updates_or_problem(self.adding.problems, lambda: work(values))

    def write_out(self, place: int) -> Callable[[Values], Updates]:
        """Write one LoRA's template prompts into its prompt field, to be edited."""
        return self._lines(place, self._templates)

    def use_captions(self, place: int) -> Callable[[Values], Updates]:
        """Write prompts from the training captions in the file."""
        return self._lines(
            place, lambda _values, card, pick: tag_prompts(pick.trigger, card.captions)
        )

    def paste(self, values: Values) -> Updates:
        """Fill in strengths and prompt from an A1111 prompt."""
        try:
            pasted_prompt = apply_prompt(values[self.adding.prompt] or "", self.form.picks(values))
        except MergeError as error:
            return {self.adding.paste_message: problems_html([str(error)])}
        prompt = self.form.draw_form.prompt
        return {
            **self.form.card_updates(list(values[self.form.cards]), pasted_prompt.picks, values),
            **({prompt: pasted_prompt.prompt} if pasted_prompt.prompt else {}),
            self.adding.paste_message: gr.HTML(markup.messages(pasted_prompt.notes), visible=True),
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

    def change_base(self, values: Values) -> Updates:
        """Another base model: the cards show whether they fit it, and guidance gets its default."""
        form = self.form
        guidance = {form.draw_form.guidance: base_model(form.base.name(values)).guidance}
        return form.card_updates(values[form.cards], form.picks(values), values) | guidance

    def _lines(
        self, place: int, lines: Callable[[Values, Card, SelectedFile], tuple[str, ...]]
    ) -> Callable[[Values], Updates]:
        """A handler that writes lines into one LoRA's prompt field."""

        def fill(values: Values) -> Updates:
            pick = self.form.picks(values)[place]
            prompts = lines(values, values[self.form.cards][place], pick)
            text = "\n".join(prompts[: self.studio.settings.max_lines])
            return {self.form.slots[place].prompts: text, self.adding.problems: problems_html([])}

        return self.safely(fill)

    def _templates(self, values: Values, _card: Card, pick: SelectedFile) -> tuple[str, ...]:
        options = self.form.options
        count, seed = int(values[options["samples"]]), int(values[options["seed"]] or 0)
        return template_prompts(pick.trigger, count, seed)

    def add_cards(
        self,
        values: Values,
        files: Sequence[NamedFile],
        cards: list[Card],
        problems: Sequence[str] = (),
        keep: bool = True,
    ) -> Updates:
        """Add files to a list of cards, and to the library unless ``keep`` is False.

        ``problems`` are shown together with those of the files.
        """
        session = self.visit(values, cards)
        picks = list(self.form.picks(values)) if cards else []
        sentences = list(problems)
        for file in files:
            try:
                card = self.studio.add(session, file.path, cards, file.name, file.origin)
            except MergeError as error:
                sentences.append(error_sentence(error))
            except Exception as error:
                log.exception("a file could not be read")
                sentences.append(f"{file.name}: {error_sentence(error)}")
            else:
                cards = [*cards, card]
                picks.append(SelectedFile.of(card))
                sentences += filter(None, [self.studio.keep(session, card)] if keep else [])
        return {
            self.form.session: session,
            self.adding.problems: problems_html(sentences),
            **self.form.card_updates(cards, tuple(picks), values),
        }

    def visit(self, values: Values, cards: Sequence[Card] = ()) -> str:
        """The session's token; an expired session is replaced if the list is empty."""
        session: str = values[self.form.session]
        if cards or self.studio.store.is_open(session):
            return session
        return self.studio.open_session(current_client())


def problems_html(sentences: list[str]) -> gr.HTML:
    """The problems as a list, hidden if there are none."""
    return gr.HTML(markup.problem_list(sentences), visible=bool(sentences))


def wire_files(listing: FileHandlers) -> None:
    """Connect step 1; conflicts are computed anew after every change."""
    form, adding = listing.form, listing.adding
    changed = {*form.outputs, adding.problems}
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
            listing.safely(listing.add_files), {*form.inputs, upload}, {*changed, upload}, **QUIET
        ),
        adding.paste.click(
            listing.paste,
            {*form.inputs, adding.prompt},
            {*form.outputs, adding.paste_message},
            **AT_ONCE,
        ),
    ]
    for place, slot in enumerate(form.slots):
        events += _wire_slot(listing, place, slot)
    base_outputs = {*changed, form.draw_form.guidance}
    form.base.radio.input(listing.safely(listing.change_base), form.inputs, base_outputs, **AT_ONCE)
    for event in events:
        event.then(listing.look, form.inputs, adding.conflicts, **LOOK)
    strengths = [event for slot in form.slots for event in slot.strength_events]
    gr.on(strengths, listing.look, form.inputs, adding.conflicts, **LOOK)


def _wire_slot(listing: FileHandlers, place: int, slot: LoraCard) -> list[Any]:
    """Connect the buttons of one card; returns the events that change the list."""
    form = listing.form
    changed = {*form.outputs, listing.adding.problems}
    lines = {slot.prompts, listing.adding.problems}
    slot.write_out.click(listing.write_out(place), form.inputs, lines, **AT_ONCE)
    slot.captions.click(listing.use_captions(place), form.inputs, lines, **AT_ONCE)
    slot.up.click(listing.move(place, -1), form.inputs, changed, **AT_ONCE)
    slot.down.click(listing.move(place, +1), form.inputs, changed, **AT_ONCE)
    return [slot.remove.click(listing.remove(place), form.inputs, changed, **AT_ONCE)]

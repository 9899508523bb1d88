"""Files of the library are packed into one, after a question, and taken out again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import gradio as gr

from app.schemas.pack import PackOffer
from app.ui.common import QUIET, Updates, Values, logged_sentence
from app.ui.handlers.base_model import problems_html
from app.ui.handlers.files import FileHandlers
from app.ui.html import fragments as markup
from app.ui.sections.library import PACK, PackingWidgets
from merging.errors import MergeError
from merging.packs.pack_file import LOSS

PACKING = "Packing… {:.0%}"
# Packing takes both a processor and memory: one at a time.
ONE: dict[str, Any] = {**QUIET, "concurrency_id": "pack"}


@dataclass(frozen=True)
class PackingHandlers:
    """The behaviour of the buttons below the library's list."""

    listing: FileHandlers
    search: Callable[[Values], Updates]  # shows the library's list anew

    @property
    def widgets(self) -> PackingWidgets:
        """The buttons and the question."""
        return self.listing.sources.library.packing

    def offer(self, values: Values) -> Iterator[Updates]:
        """Pack the ticked files into the visit, and ask whether that is to replace them."""
        try:
            yield from self._offer(values)
        except Exception as error:  # noqa: BLE001 -- it is logged
            sentence = logged_sentence(error, "packing failed")
            yield {self.listing.adding.problems: problems_html([sentence])}
        yield {self.widgets.make: gr.Button(PACK, interactive=True)}

    def _offer(self, values: Values) -> Iterator[Updates]:
        ticked = values[self.listing.sources.library.results] or []
        session, keep = values[self.listing.form.session], values[self.widgets.keep]
        if len(ticked) < 2:
            raise MergeError("A pack holds several LoRAs: tick at least two of your library.")
        with closing(self.listing.studio.offer_pack(session, ticked, keep)) as items:
            for item in items:
                if isinstance(item, PackOffer):
                    yield self._ask(item)
                else:
                    text = PACKING.format(item)
                    yield {self.widgets.make: gr.Button(text, interactive=False)}

    def _ask(self, offer: PackOffer) -> Updates:
        """The question; MergeError for a pack that saves nothing."""
        if offer.bytes >= offer.before:
            raise MergeError(
                f"These files are as small as their pack would be ({_size(offer.bytes)}): let it "
                "keep less of each, or leave them."
            )
        return {
            self.widgets.offer: offer,
            self.widgets.group: gr.Column(visible=True),
            self.widgets.question: markup.messages(question(offer)),
            self.listing.adding.problems: problems_html([]),
        }

    def accept(self, values: Values) -> Updates:
        """Put the pack in the place of its files."""
        offer = values[self.widgets.offer]
        if isinstance(offer, PackOffer):
            self.listing.studio.library(values[self.listing.form.session]).pack(offer)
        return self.decline(values) | self.search(values)

    def decline(self, _values: Values) -> Updates:
        """Put the question away."""
        return {self.widgets.offer: None, self.widgets.group: gr.Column(visible=False)}

    def take_out(self, values: Values) -> Updates:
        """Give each ticked LoRA a file of its own again."""
        studio, session = self.listing.studio, values[self.listing.form.session]
        for sha256 in values[self.listing.sources.library.results] or []:
            studio.take_out(session, sha256)
        return self.search(values)


def question(offer: PackOffer) -> list[str]:
    """What the pack saves and loses, and what is to be decided."""
    count, saved = len(offer.members), _size(offer.before - offer.bytes)
    sizes = f"{_size(offer.bytes)} instead of {_size(offer.before)}"
    losses = ", ".join(f"{member.name} {member.error:.1%}" for member in offer.members)
    worst = max(member.error for member in offer.members)
    lost = f"Relative error of each: {losses}." if worst > LOSS else "It loses rounding only."
    return [
        f"One pack of these {count} takes {sizes}, which saves {saved}. {lost}",
        "Every LoRA stays in the library under its name. The files are deleted, and what the pack "
        "loses does not come back by unpacking.",
    ]


def _size(size: int) -> str:
    return markup.megabytes(size / 2**20)


def wire_packing(handlers: PackingHandlers, inputs: set[Any], outputs: set[Any]) -> None:
    """Connect the buttons; ``outputs`` are the library's list and its problems."""
    widgets, safely = handlers.widgets, handlers.listing.safely
    problems = handlers.listing.adding.problems
    inputs = {*inputs, widgets.keep, widgets.offer}
    offered = {*widgets.outputs, problems}
    taken = {*offered, *outputs}
    widgets.make.click(handlers.offer, inputs, offered, **ONE)
    widgets.accept.click(safely(handlers.accept), inputs, taken, **ONE)
    widgets.decline.click(safely(handlers.decline), inputs, offered, **QUIET)
    widgets.take_out.click(safely(handlers.take_out), inputs, outputs, **ONE)

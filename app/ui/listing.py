"""What happens to the list of LoRAs: files come, go, move and are looked at."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import gradio as gr

from app.cards import Card
from app.orders import Pick
from app.service import Studio
from app.shelf import Example
from app.ui import markup
from app.ui.basics import OUR_FAULT, Updates, Values
from app.ui.forms import Form
from merging.errors import MergeError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Listing:
    """The first step's behaviour, over its widgets and the service."""

    studio: Studio
    form: Form
    upload: gr.File
    problems: gr.HTML

    def add_files(self, values: Values) -> Updates:
        """Uploaded files become cards; what cannot be taken is said in one sentence each."""
        paths = [Path(path) for path in values[self.upload] or []]
        return self._added(values, paths, list(values[self.form.cards])) | {self.upload: None}

    def example(self, shown: Example) -> Callable[[Values], Updates]:
        """Put a bundled pair in the place of whatever is there."""

        def load(values: Values) -> Updates:
            radio = self.form.base.radio
            fresh = values | {radio: "mini", self.form.scene.prompt: ""}
            return self._added(fresh, list(shown.files), []) | {radio: "mini"}

        return load

    def remove(self, place: int) -> Callable[[Values], Updates]:
        """Take one LoRA off the list; the others keep what was typed."""

        def take(values: Values) -> Updates:
            cards, picks = list(values[self.form.cards]), list(self.form.picks(values))
            del cards[place : place + 1], picks[place : place + 1]
            return self.form.filled(cards, tuple(picks), values) | {self.problems: told([])}

        return take

    def rebase(self, values: Values) -> Updates:
        """Another base was chosen: the cards say whether they fit it."""
        return self.form.filled(values[self.form.cards], self.form.picks(values), values)

    def _added(self, values: Values, paths: list[Path], cards: list[Card]) -> Updates:
        session = values[self.form.session]
        picks = list(self.form.picks(values)) if cards else []
        refused: list[str] = []
        if not cards:
            session = self.studio.open_session()
        for path in paths:
            try:
                found = self.studio.add(session, path, cards)
            except MergeError as error:
                refused.append(str(error))
            except Exception:
                log.exception("a file could not be looked at")
                refused.append(f"{path.name}: {OUR_FAULT}")
            else:
                cards = [*cards, found]
                picks.append(Pick.of(found))
        return {
            self.form.session: session,
            self.problems: told(refused),
            **self.form.filled(cards, tuple(picks), values),
        }


def told(refused: list[str]) -> gr.HTML:
    """The list of files that were not taken, nothing where all were."""
    return gr.HTML(markup.problems(refused), visible=bool(refused))

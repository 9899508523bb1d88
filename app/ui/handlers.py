"""What happens on a click: widgets → order → service → widgets, and nothing else.

Handlers are generators that hand on the service's steps; when Gradio closes one (the visitor left),
the service's iterator is closed with it, which stops the work and waits for its end.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import gradio as gr

from app.cards import Card
from app.executor import Step
from app.orders import Merged, Pick, Picture
from app.service import Studio
from app.shelf import Example
from app.ui import markup
from app.ui.forms import Form, Updates, Values
from app.ui.results import Dock, Results
from merging.errors import Cancelled, MergeError

log = logging.getLogger(__name__)

JobUpdates = Generator[Updates, None, None]
OUR_FAULT = "Something broke on our side, not on yours; please report what you did just before."
STOPPED = "Stopped. Everything is as it was before; press Merge to start again."


@dataclass(frozen=True)
class Handlers:
    """The page's behaviour, over its widgets and the service."""

    studio: Studio
    form: Form
    results: Results
    dock: Dock
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

    def merge(self, values: Values) -> Iterator[Updates]:
        """Merge, offer the files, and draw the comparison."""
        yield from self._shown(self._merge(values), "Reading the files")

    def draw(self, values: Values) -> Iterator[Updates]:
        """Draw the comparison anew, with another prompt or seed."""
        merged: Merged | None = values[self.form.merged]
        prompt = values[self.form.scene.prompt]
        yield from self._shown(self._draw(values, merged, prompt), "Getting ready to draw")

    def stop(self, values: Values) -> Updates:
        """Raise the flag; the job's own handler tells when it has ended."""
        self.studio.stop(values[self.form.session])
        return self.dock.stopping()

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

    def _merge(self, values: Values) -> JobUpdates:
        order = self.form.merge_order(values)
        merged: Merged | None = None
        with closing(self.studio.merge(values[self.form.session], order)) as items:
            for item in items:
                if isinstance(item, Step):
                    yield {self.dock.status: markup.running(item)}
                else:
                    merged = item
        if merged is None:
            raise RuntimeError("a merge ended without a result")
        prompt = self.form.prompt(values, order.picks)
        yield {
            self.form.merged: merged,
            **self.form.prompted(values, prompt),
            **self.results.files(merged),
            **self.results.no_pictures(),
        }
        yield from self._draw(values, merged, prompt)

    def _draw(self, values: Values, merged: Merged | None, prompt: str) -> JobUpdates:
        order = self.form.draw_order(values, merged, prompt)
        drawn: list[Picture] = []
        with closing(self.studio.draw(values[self.form.session], order)) as items:
            for item in items:
                if isinstance(item, Step):
                    yield {self.dock.status: markup.running(item)}
                else:
                    drawn = [*drawn, item]
                    yield self.results.pictures(drawn)

    def _shown(self, updates: JobUpdates, start: str) -> Iterator[Updates]:
        """A job on the page: buttons off, its updates, and the last word whatever happens.

        The last word brings all results once more: of updates that come in one burst, as on a
        busy machine, Gradio's page may let one without pictures undo one with pictures.
        """
        yield self.dock.busy(markup.running(Step(0.0, start)))
        results: Updates = {}
        try:
            with closing(updates):
                for update in updates:
                    results |= {each: update[each] for each in update.keys() & self.results.outputs}
                    yield update
        except Cancelled:
            last = markup.told("stopped", STOPPED)
        except MergeError as error:
            last = markup.told("failed", str(error))
        except Exception:
            log.exception("a job failed")
            last = markup.told("failed", OUR_FAULT)
        else:
            last = markup.told("done", "Done.", link=True)
        yield results | self.dock.idle(last)


def told(refused: list[str]) -> gr.HTML:
    """The list of files that were not taken, nothing where all were."""
    return gr.HTML(markup.problems(refused), visible=bool(refused))

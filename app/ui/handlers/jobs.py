"""What happens on a click: widgets → order → service → widgets, and nothing else.

Handlers are generators that hand on the service's steps; when Gradio closes one (the visitor left),
the service's iterator is closed with it, which stops the work and waits for its end.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import gradio as gr

from app.jobs.queue import Step
from app.schemas.draw import DrawOrder, MissingScores, OtherMerge, Picture
from app.schemas.merge import FinishedMerge, MergeOrder
from app.service import Studio
from app.shell_commands import draw_commands
from app.storage.history_entry import Entry
from app.ui.common import Updates, Values, error_sentence
from app.ui.handlers.files import told
from app.ui.handlers.form import Form
from app.ui.html import fragments as markup
from app.ui.html.error_chart import error_chart
from app.ui.sections.draw_form import MOST_OTHERS
from app.ui.sections.progress_bar import ProgressBar, Results
from merging.errors import Cancelled, MergeError
from merging.report import LayerReport

log = logging.getLogger(__name__)

JobUpdates = Generator[Updates, None, None]
STOPPED = "Stopped. Everything is as it was before; start again whenever you like."


@dataclass(frozen=True)
class Handlers:
    """The page's behaviour, over its widgets and the service."""

    studio: Studio
    form: Form
    results: Results
    dock: ProgressBar
    chart: gr.HTML  # of the layers, while a merge runs and after it
    kept: gr.HTML  # why something could not be kept in the history

    @property
    def said(self) -> set[Any]:
        """Where any job speaks."""
        return {self.kept, *self.dock.outputs}

    @property
    def outputs(self) -> set[Any]:
        """Whatever a merge or a drawing may change."""
        form = self.form
        own = {self.chart, form.merged, form.suggested, form.scene.prompt}
        return own | self.said | self.results.outputs

    def merge(self, values: Values) -> Iterator[Updates]:
        """Merge, offer the files, and draw the comparison."""
        yield from self.shown(self._merge(values), "Reading the files")

    def draw(self, values: Values) -> Iterator[Updates]:
        """Draw the comparison anew, with another prompt or seed."""
        yield from self.shown(self._draw(values), "Getting ready to draw")

    def stop(self, values: Values) -> Updates:
        """Raise the flag; the job's own handler tells when it has ended."""
        self.studio.stop(values[self.form.session])
        return self.dock.stopping()

    def _merge(self, values: Values) -> JobUpdates:
        order = self.form.merge_order(values)
        session = values[self.form.session]
        others = self._others(values, order)  # what is wrong with one is said before the work
        merged = yield from self.merging(session, order)
        entry = yield from self.remembered(session, merged)
        prompt = self.form.prompt(values, order.picks)
        yield {self.form.merged: merged, **self.form.prompted(values, prompt)}
        scene = self.form.draw_order(values, merged, prompt)
        yield from self.drawing(session, merged, replace(scene, others=others), entry)

    def _draw(self, values: Values) -> JobUpdates:
        merged = self.form.last_merge(values)
        scene = self.form.draw_order(values, merged, values[self.form.scene.prompt])
        scene = replace(scene, others=self._others(values, merged.order))
        yield from self.drawing(values[self.form.session], merged, scene)

    def offer(self, values: Values) -> Updates:
        """The merges of the history that may stand beside the one on the page."""
        form, session = self.form, values[self.form.session]
        merges: list[Entry] = []
        if self.studio.begun(session):
            merges = self.studio.history(session).merges(MOST_OTHERS, values[form.merged])
        return form.scene.offered(merges, values[form.scene.others])

    def _others(self, values: Values, order: MergeOrder) -> tuple[OtherMerge, ...]:
        chosen = values[self.form.scene.others]
        return self.studio.others(values[self.form.session], chosen, order.base)

    def merging(self, session: str, order: MergeOrder) -> Generator[Updates, None, FinishedMerge]:
        """Merge and offer the files; the pictures of the last merge go."""
        merged: FinishedMerge | None = None
        rows: dict[str, LayerReport] = {}
        yield {self.chart: gr.HTML("", visible=False)}
        with closing(self.studio.merge(session, order)) as items:
            for item in items:
                if isinstance(item, Step):
                    yield {self.dock.status: markup.progress(item), **self._charted(item, rows)}
                else:
                    merged = item
        if merged is None:
            raise RuntimeError("a merge ended without a result")
        yield {
            self.form.merged: merged,
            **self.results.files.merged(merged),
            **self.results.views.cleared(),
        }
        return merged

    def drawing(
        self, session: str, merged: FinishedMerge, order: DrawOrder, entry: int | None = None
    ) -> JobUpdates:
        """Draw a comparison and keep it: in its merge's ``entry``, or in one of its own."""
        drawn: list[Picture] = []
        views = self.results.views
        yield views.explained(bool(order.references))
        with closing(self.studio.draw(session, order)) as items:
            for item in items:
                if isinstance(item, Step):
                    yield {self.dock.status: markup.progress(item)}
                elif isinstance(item, MissingScores):
                    yield views.unscored(item.why)
                else:
                    drawn = [*drawn, item]
                    yield views.pictures(drawn, across(order), order.of_the_merge)
        yield views.compared(drawn, draw_commands(order))
        yield from self.remembered(session, merged, order, drawn, entry)

    def remembered(
        self, session: str, merged: FinishedMerge, *sheet: Any
    ) -> Generator[Updates, None, int | None]:
        """Keep it in the history, or say why not; returns the entry."""
        entry, problem = self.studio.remember(session, merged, *sheet)
        if problem:
            yield {self.kept: told([problem])}
        return entry

    def _charted(self, step: Step, rows: dict[str, LayerReport]) -> Updates:
        """The chart with the step's layer, if it brings a new one."""
        row = step.solved
        if row is None or rows.get(row.layer) is row:
            return {}
        rows[row.layer] = row
        drawn = error_chart(list(rows.values()), step.layers)
        return {self.chart: gr.HTML(drawn, visible=True)} if drawn else {}

    def shown(
        self, updates: JobUpdates, start: str, done: str = "", lasting: Collection[Any] = ()
    ) -> Iterator[Updates]:
        """A job on the page: buttons off, its updates, and the last word whatever happens.

        ``done`` is that word if all went well, ``lasting`` what it changes beside the results.

        The last word brings all results once more: of updates that come in one burst, as on a
        busy machine, Gradio's page may let one without pictures undo one with pictures.
        """
        yield self.dock.busy(markup.progress(Step(0.0, start))) | {self.kept: told([])}
        results: Updates = {}
        kept = {*self.results.outputs, self.kept, *lasting}
        try:
            with closing(updates):
                for update in updates:
                    results |= {each: update[each] for each in update.keys() & kept}
                    yield update
        except Cancelled:
            last = markup.outcome("stopped", STOPPED)
        except MergeError as error:
            last = markup.outcome("failed", error_sentence(error))
        except Exception as error:
            log.exception("a job failed")
            last = markup.outcome("failed", error_sentence(error))
        else:
            last = (
                markup.outcome("done", done) if done else markup.outcome("done", "Done.", link=True)
            )
        yield results | self.dock.idle(last)


def across(order: DrawOrder) -> int:
    """Pictures in a row: the seeds of a column side by side, as far as they go."""
    return {1: 3, 3: 3, 6: 3}.get(order.count, 4)

"""What happens on a click: widgets → order → service → widgets, and nothing else.

Handlers are generators that hand on the service's steps; when Gradio closes one (the visitor left),
the service's iterator is closed with it, which stops the work and waits for its end.
"""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import gradio as gr

from app.commands import draw_commands
from app.executor import Step
from app.orders import Merged
from app.scenes import DrawOrder, Picture
from app.service import Studio
from app.ui import markup
from app.ui.basics import Updates, Values, said_of
from app.ui.chart import chart, layers_of
from app.ui.forms import Form
from app.ui.results import Dock, Results
from merging.errors import Cancelled, MergeError
from merging.report import LayerReport

log = logging.getLogger(__name__)

JobUpdates = Generator[Updates, None, None]
STOPPED = "Stopped. Everything is as it was before; press Merge to start again."


@dataclass(frozen=True)
class Handlers:
    """The page's behaviour, over its widgets and the service."""

    studio: Studio
    form: Form
    results: Results
    dock: Dock
    chart: gr.HTML  # of the layers, while a merge runs and after it

    @property
    def outputs(self) -> set[Any]:
        """Whatever a job may change."""
        form = self.form
        own = {self.chart, form.merged, form.suggested, form.scene.prompt}
        return own | self.dock.outputs | self.results.outputs

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

    def _merge(self, values: Values) -> JobUpdates:
        order = self.form.merge_order(values)
        merged: Merged | None = None
        rows: dict[str, LayerReport] = {}
        yield {self.chart: gr.HTML("", visible=False)}
        with closing(self.studio.merge(values[self.form.session], order)) as items:
            for item in items:
                if isinstance(item, Step):
                    yield {self.dock.status: markup.running(item), **self._charted(item, rows)}
                else:
                    merged = item
        if merged is None:
            raise RuntimeError("a merge ended without a result")
        prompt = self.form.prompt(values, order.picks)
        yield {
            self.form.merged: merged,
            **self.form.prompted(values, prompt),
            **self.results.files.merged(merged),
            **self.results.views.cleared(),
        }
        yield from self._draw(values, merged, prompt)

    def _charted(self, step: Step, rows: dict[str, LayerReport]) -> Updates:
        """The chart with the step's layer, if it brings a new one."""
        row = step.solved
        if row is None or rows.get(row.layer) is row:
            return {}
        rows[row.layer] = row
        drawn = chart(list(rows.values()), layers_of(step.text))
        return {self.chart: gr.HTML(drawn, visible=True)} if drawn else {}

    def _draw(self, values: Values, merged: Merged | None, prompt: str) -> JobUpdates:
        order = self.form.draw_order(values, merged, prompt)
        drawn: list[Picture] = []
        views = self.results.views
        with closing(self.studio.draw(values[self.form.session], order)) as items:
            for item in items:
                if isinstance(item, Step):
                    yield {self.dock.status: markup.running(item)}
                else:
                    drawn = [*drawn, item]
                    yield views.pictures(drawn, across(order))
        yield views.compared(drawn, draw_commands(order))

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
        except Exception as error:
            log.exception("a job failed")
            last = markup.told("failed", said_of(error))
        else:
            last = markup.told("done", "Done.", link=True)
        yield results | self.dock.idle(last)


def across(order: DrawOrder) -> int:
    """Pictures in a row: the seeds of a column side by side, as far as they go."""
    return {1: 3, 3: 3, 6: 3}.get(order.count, 4)

"""A search for strengths, and its result in the rows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import gradio as gr

from app.jobs.queue import Step
from app.schemas.tuning import TuneOrder, TuneResult
from app.shell_commands import tune_command
from app.ui.common import AT_ONCE, Updates, Values, served
from app.ui.handlers.files import FileHandlers
from app.ui.handlers.jobs import Handlers, JobUpdates
from app.ui.html import fragments as markup
from app.ui.html.tuning import tuning_html
from app.ui.sections.lora_row import MOST_STRENGTH
from app.ui.sections.tuning import TuningSection
from merging.errors import MergeError

DONE = "Done: what was found is under “Find strengths”."


@dataclass(frozen=True)
class TuningHandlers:
    """The behaviour of the section."""

    handlers: Handlers
    listing: FileHandlers
    section: TuningSection

    @property
    def inputs(self) -> set[Any]:
        widgets = self.section
        return {*self.handlers.form.inputs, widgets.judge, widgets.budget, widgets.result}

    def find(self, values: Values) -> Iterator[Updates]:
        """Run the search."""
        lasting = self.section.outputs
        yield from self.handlers.run_job(self._run(values), "Reading the files", DONE, lasting)

    def _run(self, values: Values) -> JobUpdates:
        widgets, form = self.section, self.handlers.form
        merge = form.merge_order(values)
        order = TuneOrder(merge, values[widgets.judge], int(values[widgets.budget]))
        with closing(self.handlers.studio.tune(values[form.session], order)) as items:
            for item in items:
                if isinstance(item, Step):
                    yield {self.handlers.dock.status: markup.progress(item)}
                else:
                    yield self._show(item)

    def _show(self, result: TuneResult) -> Updates:
        widgets = self.section
        return {
            widgets.result: result,
            widgets.outcome: tuning_html(result, served(widgets.outcome, result.plot)),
            widgets.use: gr.Button(visible=result.helped),
            widgets.command: tune_command(result.order),
        }

    def use(self, values: Values) -> Updates:
        """The found strengths in the rows; MergeError if these cannot take them."""
        form, result = self.handlers.form, values[self.section.result]
        picks, cards = form.picks(values), list(values[form.cards])
        assert isinstance(result, TuneResult)
        if not {pick.path for pick in result.order.merge.picks} <= {pick.path for pick in picks}:
            raise MergeError("Other LoRAs are in the list now: find strengths for them first.")
        turned = tuple(map(result.taken_by, picks))
        for pick in turned:
            largest = max(abs(it) for it in (pick.strength, pick.text_encoder or 0, pick.unet or 0))
            if largest > MOST_STRENGTH:
                raise MergeError(
                    f"{pick.name}: the strength that was found, {largest:g}, is more than "
                    f"{MOST_STRENGTH:g}, the most that a row takes: begin with smaller ones."
                )
        return form.card_updates(cards, turned, values)


def wire_tuning(tuning: TuningHandlers, job: dict[str, Any]) -> tuple[Any, Any]:
    """Connect the widgets; returns the events of the search and of its use."""
    widgets, form = tuning.section, tuning.handlers.form
    outputs = widgets.outputs | tuning.handlers.message_outputs
    used = {*form.outputs, tuning.listing.adding.problems}
    use = tuning.listing.safely(tuning.use)
    return (
        widgets.find.click(tuning.find, tuning.inputs, outputs, **job),
        widgets.use.click(use, tuning.inputs, used, **AT_ONCE),
    )

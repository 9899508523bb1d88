"""Several merges at once on the page: a matrix of methods and strengths, and one zip."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr

from app.jobs.queue import Step
from app.schemas.batch import BatchOrder, strengths_of, strengths_text
from app.schemas.merge import FinishedMerge
from app.shell_commands import batch_command
from app.ui.common import AT_ONCE, Updates, Values, updates_or_problem
from app.ui.handlers.files import told
from app.ui.handlers.jobs import Handlers, JobUpdates
from app.ui.html import fragments as markup
from app.ui.html.batch_table import batch_table, count_text
from app.ui.sections.batch import BatchSection

if TYPE_CHECKING:
    pass

DONE = "Done: the zip is ready, under Merge."


@dataclass(frozen=True)
class BatchHandlers:
    """What they do."""

    handlers: Handlers
    several: BatchSection

    @property
    def inputs(self) -> set[Any]:
        own = self.several
        return {*self.handlers.form.inputs, own.methods, own.strengths}

    def open(self, values: Values) -> Updates:
        """The LoRAs that are on the list, a line each; what was typed for them stays."""
        own = self.several

        def work() -> Updates:
            picks = [pick for pick in self.handlers.form.picks(values) if pick.on]
            typed = values[own.strengths] or ""
            named = {line.rpartition(":")[0].strip() for line in typed.splitlines()}
            if named == {pick.name for pick in picks}:
                return self.look(values)
            text = strengths_text(picks)
            return {own.strengths: text, **self.look({**values, own.strengths: text})}

        return updates_or_problem(own.count, work)

    def look(self, values: Values) -> Updates:
        """How many merges these are."""
        own = self.several
        return updates_or_problem(own.count, lambda: {own.count: count_text(self._order(values))})

    def make(self, values: Values) -> Iterator[Updates]:
        """Make them all."""
        own = self.several
        lasting = {own.table, own.archive, own.command}
        yield from self.handlers.shown(self._made(values), "Reading the files", DONE, lasting)

    def _made(self, values: Values) -> JobUpdates:
        order, own = self._order(values), self.several
        session, made = values[self.handlers.form.session], list[FinishedMerge]()
        with closing(self.handlers.studio.batch(session, order)) as items:
            for item in items:
                if isinstance(item, Step):
                    yield {self.handlers.dock.status: markup.progress(item)}
                elif isinstance(item, FinishedMerge):
                    made.append(item)
                else:
                    yield {
                        own.table: batch_table(item),
                        own.archive: gr.DownloadButton(value=str(item.archive), visible=True),
                        own.command: batch_command(order, item.archive.name, item.recipe),
                    }
        # a batch that was stopped leaves nothing; the last one ends up on top of the history
        said = [self.handlers.studio.remember(session, each)[1] for each in made]
        yield {self.handlers.kept: told(list(dict.fromkeys(filter(None, said))))}

    def _order(self, values: Values) -> BatchOrder:
        merge = self.handlers.form.merge_order(values)
        strengths = strengths_of(values[self.several.strengths] or "", merge.picks)
        return BatchOrder(merge, tuple(values[self.several.methods]), strengths)


def wire_batch(batching: BatchHandlers, job: dict[str, Any]) -> Any:
    """Opening fills in the LoRAs; changes count; the button makes, which is returned."""
    own, inputs = batching.several, batching.inputs
    own.section.expand(batching.open, inputs, {own.strengths, own.count}, **AT_ONCE)
    changes = [own.methods.change, own.strengths.change]
    gr.on(changes, batching.look, inputs, own.count, trigger_mode="always_last", **AT_ONCE)
    made = {own.table, own.archive, own.command, *batching.handlers.said}
    return own.make.click(batching.make, inputs, made, **job)

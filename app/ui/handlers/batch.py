"""Several merges at once: all combinations of methods and strengths, in one zip."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gradio as gr

from app.jobs.queue import Step
from app.schemas.batch import BatchOrder, BatchResult, strengths_of, strengths_text
from app.schemas.draw import Picture
from app.schemas.merge import FinishedMerge
from app.shell_commands import batch_command
from app.storage.history_matrix import MatrixCell
from app.ui.common import (
    AT_ONCE,
    QUIET,
    TO_STAGE,
    Updates,
    Values,
    error_sentence,
    updates_or_problem,
)
from app.ui.handlers.base_model import problems_html
from app.ui.handlers.jobs import Handlers, JobUpdates
from app.ui.handlers.open_entry import EntryOpener
from app.ui.html import fragments as markup
from app.ui.html.batch_table import batch_table, count_text
from app.ui.html.matrix import Cell, Grid, matrix_html
from app.ui.sections.batch import BatchSection
from merging.errors import MergeError

Entries = dict[Path, int | None]  # of the history, by their picture
DONE = "Done: the zip is ready, under “Several at once”."


@dataclass(frozen=True)
class BatchHandlers:
    """The behaviour of the batch section."""

    handlers: Handlers
    several: BatchSection
    opener: EntryOpener  # of the matrix's cells; it says why not above the batch's own table

    @property
    def inputs(self) -> set[Any]:
        widgets = self.several
        return {*self.handlers.form.inputs, widgets.methods, widgets.strengths, widgets.draw}

    def open(self, values: Values) -> Updates:
        """Fill in one line per LoRA, unless there is a line for every LoRA already."""
        widgets = self.several

        def work() -> Updates:
            loras = [pick for pick in self.handlers.form.picks(values) if pick.on]
            typed = values[widgets.strengths] or ""
            names = {line.rpartition(":")[0].strip() for line in typed.splitlines()}
            if names == {pick.name for pick in loras}:
                return self.look(values)
            text = strengths_text(loras)
            return {widgets.strengths: text, **self.look({**values, widgets.strengths: text})}

        return updates_or_problem(widgets.count, work)

    def open_merge(self, values: Values, event: gr.EventData) -> Updates:
        """Bring a merge of the matrix to the workbench."""
        return self.opener.open(values, int(event.choice))

    def look(self, values: Values) -> Updates:
        """Show the number of merges."""
        count = self.several.count
        return updates_or_problem(count, lambda: {count: count_text(self._order(values))})

    def make(self, values: Values) -> Iterator[Updates]:
        """Run the batch."""
        widgets = self.several
        lasting = {widgets.table, widgets.archive, widgets.command, widgets.matrix}
        yield from self.handlers.run_job(self._run(values), "Reading the files", DONE, lasting)

    def _run(self, values: Values) -> JobUpdates:
        order, widgets = self._order(values), self.several
        session, merges = values[self.handlers.form.session], list[FinishedMerge]()
        pictures: dict[Path, list[Picture]] = {}  # by the folder of their merge
        result: BatchResult | None = None
        with closing(self.handlers.studio.batch(session, order)) as items:
            for item in items:
                if isinstance(item, Step):
                    yield {self.handlers.dock.status: markup.progress(item)}
                elif isinstance(item, FinishedMerge):
                    merges.append(item)
                elif isinstance(item, Picture):
                    pictures.setdefault(item.path.parent, []).append(item)
                else:
                    result = item
                    yield {
                        widgets.table: batch_table(item),
                        widgets.archive: gr.DownloadButton(value=str(item.archive), visible=True),
                        widgets.command: batch_command(order, item.archive.name, item.recipe),
                    }
        # only now, since a stopped batch must leave nothing in the history
        problems, entries = list[str](), Entries()
        for merge in merges:
            drawn = pictures.get(merge.kohya.parent, [])
            scene = order.drawn(merge) if drawn else None
            entry, problem = self.handlers.studio.remember(session, merge, scene, drawn)
            problems.append(problem)
            entries |= {picture.path: entry for picture in drawn}
        if result is not None and result.matrix:
            problems.append(self._keep_matrix(session, result, result.matrix, entries))
            yield self._show_matrix(result, result.matrix, entries)
        different = list(dict.fromkeys(filter(None, problems)))
        yield {self.handlers.history_problem: problems_html(different)}

    def _keep_matrix(self, session: str, result: BatchResult, sheet: Path, entries: Entries) -> str:
        """Save the matrix in the history; returns why not if that fails."""
        numbers = [(cell, entries[cell.picture.path]) for cell in result.cells]
        cells = [MatrixCell(cell.column, cell.row, it) for cell, it in numbers if it is not None]
        try:
            self.handlers.studio.history(session).keep_matrix(cells, sheet)
        except (MergeError, OSError) as error:
            return f"The matrix could not be saved in the history. {error_sentence(error)}"
        return ""

    def _show_matrix(self, result: BatchResult, sheet: Path, entries: Entries) -> Updates:
        """The pictures of the merges, each of which opens its entry."""
        address = self.handlers.results.views.address
        cells = {
            (cell.column, cell.row): Cell(address(cell.picture.path), entries[cell.picture.path])
            for cell in result.cells
        }
        html = matrix_html(Grid(cells, address(sheet)))
        return {self.several.matrix: gr.HTML(html, visible=True)}

    def _order(self, values: Values) -> BatchOrder:
        order = self.handlers.form.merge_order(values)
        strengths = strengths_of(values[self.several.strengths] or "", order.picks)
        form, scene = self.handlers.form, None
        if values[self.several.draw]:
            prompt = form.prompt(values, order.picks)
            scene = replace(form.draw_order(values, order, prompt), columns=("merged",))
        methods = tuple(values[self.several.methods])
        return BatchOrder(order, methods, strengths, scene=scene)


def wire_batch(batch_handlers: BatchHandlers, job: dict[str, Any]) -> Any:
    """Connect the widgets; returns the event of the button that starts the batch."""
    widgets, inputs = batch_handlers.several, batch_handlers.inputs
    filled = {widgets.strengths, widgets.count}
    widgets.section.expand(batch_handlers.open, inputs, filled, **AT_ONCE)
    changes = [widgets.methods.change, widgets.strengths.change]
    gr.on(
        changes, batch_handlers.look, inputs, widgets.count, trigger_mode="always_last", **AT_ONCE
    )
    opener = batch_handlers.opener
    opened = widgets.matrix.select(batch_handlers.open_merge, inputs, opener.outputs, **QUIET)
    opened.then(None, js=TO_STAGE)
    jobs = batch_handlers.handlers
    opened.then(jobs.look, inputs, jobs.dock.readiness, **AT_ONCE)
    outputs = {widgets.table, widgets.archive, widgets.command, widgets.matrix}
    outputs |= batch_handlers.handlers.message_outputs
    return widgets.make.click(batch_handlers.make, inputs, outputs, **job)

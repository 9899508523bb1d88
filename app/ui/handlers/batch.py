"""Several merges at once on the page: a matrix of methods and strengths, and one zip."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

import gradio as gr

from app.jobs.queue import Step
from app.schemas.batch import Batched, BatchOrder, strengths_of, strengths_text
from app.schemas.merge import Merged
from app.shell_commands import batch_command
from app.ui.common import AT_ONCE, DEFAULTS, Updates, Values
from app.ui.handlers.files import told
from app.ui.handlers.jobs import Handlers, JobUpdates
from app.ui.html import fragments as markup
from app.ui.sections.export import tried
from app.ui.sections.pictures import as_command
from merging.methods import METHODS

if TYPE_CHECKING:
    from merging.batch import Row

DONE = "Done: the zip is ready, under Merge."
TITLES = ("merge", "rank", "size", "error left", "plain sum's", "energy kept")


@dataclass(frozen=True)
class Several:
    """The widgets."""

    section: gr.Accordion
    methods: gr.CheckboxGroup
    strengths: gr.Textbox
    count: gr.HTML
    make: gr.Button
    table: gr.HTML
    archive: gr.DownloadButton
    command: gr.Code


@dataclass(frozen=True)
class Batching:
    """What they do."""

    handlers: Handlers
    several: Several

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

        return tried(own.count, work)

    def look(self, values: Values) -> Updates:
        """How many merges these are."""
        own = self.several
        return tried(own.count, lambda: {own.count: _counted(self._order(values))})

    def make(self, values: Values) -> Iterator[Updates]:
        """Make them all."""
        own = self.several
        lasting = {own.table, own.archive, own.command}
        yield from self.handlers.shown(self._made(values), "Reading the files", DONE, lasting)

    def _made(self, values: Values) -> JobUpdates:
        order, own = self._order(values), self.several
        session, made = values[self.handlers.form.session], list[Merged]()
        with closing(self.handlers.studio.batch(session, order)) as items:
            for item in items:
                if isinstance(item, Step):
                    yield {self.handlers.dock.status: markup.running(item)}
                elif isinstance(item, Merged):
                    made.append(item)
                else:
                    yield {
                        own.table: _table(item),
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


def several_section() -> Several:
    """Folded, under the Merge button."""
    with gr.Accordion("Several at once", open=False, elem_id="several") as section:
        methods = gr.CheckboxGroup(
            [(method.title, name) for name, method in METHODS.items()],
            value=[str(DEFAULTS["method"])],
            label="Methods to try",
        )
        strengths = gr.Textbox(
            "",
            label="Strengths to try",
            info="A line for each LoRA; every combination is made. All else is as set above.",
            placeholder="sks-cat: 0.6, 0.8, 1",
            lines=2,
            max_lines=8,
        )
        count = gr.HTML(elem_id="batch-count")
        make = gr.Button("Make them all", size="md", elem_id="batch")
        table = gr.HTML(elem_id="batch-table")
        archive = gr.DownloadButton("Download the batch", visible=False, size="md")
        command = as_command("The batch as a command")
    return Several(section, methods, strengths, count, make, table, archive, command)


def _counted(order: BatchOrder) -> str:
    each = " × ".join(f"{max(len(set(listed)), 1)}" for listed in order.strengths)
    methods = "1 method" if len(order.methods) == 1 else f"{len(order.methods)} methods"
    merges = "1 merge" if order.count == 1 else f"{order.count} merges"
    strengths = f", {each} strengths" if each else ""
    return f'<p class="about">{methods}{strengths}: {merges}.</p>'


def _table(made: Batched) -> str:
    """What was made, and what was not and why."""
    head = "".join(f'<th scope="col">{title}</th>' for title in TITLES)
    rows = "".join(map(_row, made.rows))
    return (
        '<div class="table" tabindex="0" role="region" aria-label="The merges of the batch"><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
        '<p class="about">Error left on the prompts, where leaving the layers alone is 1; only '
        "methods that read prompts have one. The zip has these numbers in summary.csv.</p>"
    )


def _row(row: Row) -> str:
    name = f'<th scope="row">{escape(row.stem)}</th>'
    if row.problem:
        return f'<tr>{name}<td colspan="{len(TITLES) - 1}">{escape(row.problem)}</td></tr>'
    numbers = (
        str(row.largest_rank),
        markup.megabytes(row.bytes / 2**20),
        *("" if value is None else f"{value:.3g}" for value in (row.error, row.sum_error)),
        "" if row.kept_energy is None else f"{row.kept_energy:.1%}",
    )
    return f"<tr>{name}{''.join(f'<td>{number}</td>' for number in numbers)}</tr>"


def wire_batch(batching: Batching, job: dict[str, Any]) -> Any:
    """Opening fills in the LoRAs; changes count; the button makes, which is returned."""
    own, inputs = batching.several, batching.inputs
    own.section.expand(batching.open, inputs, {own.strengths, own.count}, **AT_ONCE)
    changes = [own.methods.change, own.strengths.change]
    gr.on(changes, batching.look, inputs, own.count, trigger_mode="always_last", **AT_ONCE)
    made = {own.table, own.archive, own.command, *batching.handlers.said}
    return own.make.click(batching.make, inputs, made, **job)

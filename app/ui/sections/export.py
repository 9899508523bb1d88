"""Take it: the quick downloads, the files made to measure, and the way to the Hub."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, get_args

import gradio as gr

from app.schemas.export import FORMS, Taken, TakeOrder
from app.schemas.merge import Merged
from app.service import Studio
from app.shell_commands import merge_command, take_commands
from app.ui.common import QUIET, Updates, Values, tried
from app.ui.handlers.form import Form
from app.ui.html import fragments as markup
from app.ui.html.rank_chart import choices, rank_chart
from app.ui.sections.hub import Hub, hub_section
from app.ui.sections.pictures import Views, as_command
from merging.errors import MergeError
from merging.options import Dtype

OPENED = {**QUIET, "concurrency_limit": None}
AS_MERGED = ("as merged", "exact")
NOT_LOGGED_IN = "Nobody is logged in: use the button at the top of the page, then merge again."


@dataclass(frozen=True)
class Files:
    """The widgets of a finished merge."""

    empty: gr.HTML  # in the files' place
    ready: gr.Column
    summary: gr.HTML
    kohya: gr.DownloadButton
    diffusers: gr.DownloadButton
    full: gr.DownloadButton  # of a merge that the others do not hold, or not as small
    words: gr.File  # textual inversions that the merge needs
    recipe: gr.Code
    command: gr.Code
    pushed: gr.HTML
    form: gr.Radio
    rank: gr.Dropdown
    curve: gr.HTML
    file: gr.DownloadButton
    archive: gr.DownloadButton
    said: gr.HTML

    def merged(self, found: Merged) -> Updates:
        """The adapter, ready to be taken home; what was made of the last one is gone."""
        return {
            self.empty: gr.HTML(visible=False),
            self.ready: gr.Column(visible=True),
            self.summary: markup.summary(found),
            self.kohya: gr.DownloadButton(value=str(found.kohya)),
            self.diffusers: gr.DownloadButton(value=str(found.diffusers)),
            self.full: gr.DownloadButton(
                value=str(found.full) if found.full else None, visible=bool(found.full)
            ),
            self.form: "full" if found.full else "kohya",
            self.words: gr.File(
                value=[str(path) for path in found.words] or None, visible=bool(found.words)
            ),
            self.recipe: json.dumps(found.recipe, indent=2, ensure_ascii=False),
            self.command: merge_command(
                found.order, found.drawn_with.name, "full" if found.shifts else "kohya"
            ),
            self.rank: gr.Dropdown([AS_MERGED], value="exact"),
            self.curve: "",
            self.file: gr.DownloadButton(visible=False),
            self.archive: gr.DownloadButton(visible=False),
            self.said: "",
            self.pushed: "",
        }

    def taken(self, order: TakeOrder, made: Taken) -> Updates:
        """Files made to measure."""
        return {
            self.command: take_commands(order, made.file.name),
            self.file: gr.DownloadButton(value=str(made.file), visible=True),
            self.archive: gr.DownloadButton(value=str(made.archive), visible=True),
            self.said: markup.sentences([f"{made.file.name}, {made.sentence}."]),
        }

    @property
    def outputs(self) -> set[Any]:
        return set(vars(self).values())


@dataclass(frozen=True)
class Measures:
    """What the visitor fills in here."""

    hub: Hub
    name: gr.Textbox
    dtype: gr.Radio
    opened: gr.Accordion
    make: gr.Button


@dataclass(frozen=True)
class Take:
    """What happens when they are pressed."""

    studio: Studio
    form: Form
    views: Views
    files: Files
    asked: Measures

    def wire(self) -> None:
        """Opening draws the curve; both buttons do what they say."""
        asked, files = self.asked, self.files
        inputs = {self.form.session, self.form.merged, self.views.drawn, files.rank, files.form}
        inputs |= {asked.name, asked.dtype}
        made = {files.file, files.archive, files.said, files.command}
        asked.opened.expand(self.look, inputs, {files.rank, files.curve, files.said}, **OPENED)
        asked.make.click(self.make, inputs, made, **OPENED)
        hub = asked.hub
        pushing = inputs | {hub.repo, hub.private}
        if hub.token is None:
            hub.push.click(self.push_as_visitor, pushing, {hub.pushed}, **OPENED)
        else:
            hub.push.click(self.push, pushing | {hub.token}, {hub.pushed, hub.token}, **OPENED)

    def look(self, values: Values) -> Updates:
        """The curve, when somebody wants to see it."""
        merged: Merged | None = values[self.form.merged]
        if merged is None:
            return {self.files.curve: ""}

        def work() -> Updates:
            points = self.studio.curve(merged, values[self.asked.dtype])
            rank = gr.Dropdown(choices(points), value="exact")
            return {self.files.rank: rank, self.files.curve: rank_chart(points)}

        return tried(self.files.said, work)

    def make(self, values: Values) -> Updates:
        """Other precision, rank or name."""

        def work() -> Updates:
            order = self._order(values)
            return self.files.taken(order, self._taken(values, order))

        return tried(self.files.said, work)

    def push(self, values: Values) -> Updates:
        """To the Hub; the token leaves the page with the press and is not kept anywhere."""
        token = self.asked.hub.token
        return {token: ""} | self._pushed(values, values[token])

    def push_as_visitor(self, values: Values, login: gr.OAuthToken | None) -> Updates:
        """To the Hub as who is logged in; Gradio hands the login over, and nothing keeps it."""
        if login is None:
            return {self.asked.hub.pushed: markup.problems([NOT_LOGGED_IN])}
        return self._pushed(values, login.token)

    def _pushed(self, values: Values, token: str) -> Updates:
        hub = self.asked.hub

        def work() -> Updates:
            made = self._taken(values, self._order(values))
            place = self.studio.push(made, values[hub.repo], token, values[hub.private])
            return {hub.pushed: markup.sentences([f"It is at {place}."])}

        return tried(hub.pushed, work)

    def _order(self, values: Values) -> TakeOrder:
        merged: Merged | None = values[self.form.merged]
        if merged is None:
            raise MergeError("There is nothing to take yet: merge first.")
        return TakeOrder(
            merged,
            tuple(values[self.views.drawn]),
            values[self.asked.name],
            values[self.files.form],
            values[self.asked.dtype],
            str(values[self.files.rank]),
        )

    def _taken(self, values: Values, order: TakeOrder) -> Taken:
        return self.studio.take(values[self.form.session], order)


def take_section(login: bool = False) -> tuple[Files, Measures]:
    """The fourth step of the page."""
    with gr.Column(elem_classes="sheet", elem_id="take"):
        gr.HTML(markup.heading(4, "Take it", "One file that loads like any other LoRA."))
        empty = gr.HTML(markup.NOTHING_YET)
        with gr.Column(visible=False, elem_id="download") as ready:
            summary = gr.HTML(elem_id="summary")
            with gr.Row():
                kohya = gr.DownloadButton(
                    "A1111 · Forge · ComfyUI · InvokeAI", variant="primary", size="md", scale=3
                )
                diffusers = gr.DownloadButton("diffusers · PEFT", size="md", scale=2)
            full = gr.DownloadButton(
                "All of it, every change whole: A1111 · Forge · ComfyUI · InvokeAI",
                visible=False,
                size="md",
                elem_id="full",
            )
            words = gr.File(
                label="Words that it needs: textual inversions, a file each",
                file_count="multiple",
                interactive=False,
                visible=False,
                elem_id="words",
            )
            measures, made = _to_measure()
            hub = hub_section(login)
            with gr.Accordion("Recipe (it is also inside the file)", open=False):
                recipe = gr.Code(
                    language="json", interactive=False, wrap_lines=True, label="recipe.json"
                )
            command = as_command("The merge as a command")
    files = Files(
        *(empty, ready, summary, kohya, diffusers, full, words, recipe, command, hub.pushed), *made
    )
    return files, Measures(hub, *measures)


def _to_measure() -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """Name, format, precision and rank, and the buttons for what was made."""
    with gr.Accordion("Smaller, other precision, or all in one zip", open=False) as opened:
        curve = gr.HTML(elem_id="curve")
        rank = gr.Dropdown(
            [AS_MERGED],
            value="exact",
            label="Rank of the file",
            info="Smaller loses the least important directions of every layer.",
        )
        with gr.Row():
            form = gr.Radio(
                [(f"{name}: {who}", name) for name, who in FORMS.items()],
                value="kohya",
                label="Format",
                info="Only the full one has a place for biases and normalisations.",
            )
            dtype = gr.Radio(list(get_args(Dtype)), value="fp16", label="Precision")
        name = gr.Textbox("", label="File name", placeholder="Empty: one that explains itself.")
        make = gr.Button("Make the files", elem_id="make")
        said = gr.HTML(elem_id="made")
        with gr.Row():
            file = gr.DownloadButton("The file", visible=False, size="md")
            archive = gr.DownloadButton("Zip of all", visible=False, size="md")
    return (name, dtype, opened, make), (form, rank, curve, file, archive, said)

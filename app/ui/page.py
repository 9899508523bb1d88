"""The page, section by section: four steps, History, Settings, Help, and the dock at its foot."""

from __future__ import annotations

from typing import Any

import gradio as gr

from app.examples import Example, examples
from app.service import Studio
from app.ui.api.endpoints import ENDPOINTS, add_endpoints
from app.ui.common import AT_ONCE, QUIET
from app.ui.handlers.batch import BatchHandlers, wire_batch
from app.ui.handlers.export import ExportHandlers
from app.ui.handlers.files import LOOK, FileHandlers, wire_files
from app.ui.handlers.form import Form
from app.ui.handlers.history import HistoryHandlers, wire_history
from app.ui.handlers.jobs import Handlers
from app.ui.handlers.library import LibraryHandlers, wire_library
from app.ui.handlers.load_picture import loader
from app.ui.html import fragments as markup
from app.ui.html.rendering import render_template
from app.ui.sections.add_files import add_section, example_buttons
from app.ui.sections.batch import BatchSection, batch_section
from app.ui.sections.draw_form import DrawForm, draw_form_widgets
from app.ui.sections.export import export_section
from app.ui.sections.help import help_section
from app.ui.sections.history import history_section
from app.ui.sections.hub import login_button
from app.ui.sections.lora_card import LoraCard
from app.ui.sections.merge_options import OptionWidgets, option_widgets
from app.ui.sections.pictures import PicturesSection, views
from app.ui.sections.progress_bar import ProgressBar, Results
from app.ui.sections.settings import settings_section

# Jobs stand in the executor's line, where Stop reaches them; Gradio's own line must not hold them.
JOB: dict[str, Any] = {**QUIET, "concurrency_limit": None}

REFERENCES = (
    "Drop a few pictures of the real thing for each concept: every picture that is drawn next then "
    "says how alike they are. Nothing learns from them."
)


def build(studio: Studio) -> gr.Blocks:
    """The whole app: the page and the public endpoints."""
    with gr.Blocks(title="IterIS Studio", analytics_enabled=False) as demo:
        gr.HTML(render_template("header"), elem_id="header")
        login_button(studio.settings.login)
        shelf = examples()
        with gr.Row(elem_id="columns"):
            with gr.Column(scale=5, min_width=320):
                tries = example_buttons(shelf)
                adding = add_section(studio.settings)
                chosen, merge, chart, several = _merge_section()
            with gr.Column(scale=6, min_width=320):
                base = studio.settings.base
                scene, another, draw, pictures, dropped = _compare_section(adding.slots, base)
                files, measures = export_section(studio.settings.login)
        past = history_section(studio.settings)
        settings_section(studio.settings)
        help_section()
        runs = [place.again for place in past.places]
        dock = _dock((merge, draw, *tries, several.make, past.draw_both, *runs))
        add_endpoints(studio)  # before the page's own events, which would take their names
        states = (gr.State(""), gr.State([]), gr.State(None), gr.State(""))
        form = Form(*states, adding.base, adding.slots, chosen, scene)
        loaded = loader(form, *dropped)
        results = Results(pictures, files)
        ExportHandlers(studio, form, pictures, files, measures).wire()
        listing = FileHandlers(studio, form, adding)
        handlers = Handlers(studio, form, results, dock, chart, past.said)
        recalling = HistoryHandlers(listing, loaded, handlers, past)
        wire_files(listing)
        written = {form.suggested, scene.prompt, adding.problems}
        another.click(listing.safely(form.another_prompt), form.inputs, written, **AT_ONCE)
        wire_library(LibraryHandlers(listing))
        wire_history(recalling, JOB)
        ends = [
            *_wire_jobs(handlers, merge, draw),
            wire_batch(BatchHandlers(handlers, several), JOB),
        ]
        ends += _wire_examples(listing, handlers, tuple(zip(tries, shelf, strict=True)))
        for end in ends:
            end.then(recalling.look, recalling.inputs, recalling.listed, **AT_ONCE)
    for event in demo.fns.values():
        if event.api_name not in ENDPOINTS:  # such as one that the log-in button brings
            event.api_visibility = "private"
    return demo


def _merge_section() -> tuple[OptionWidgets, gr.Button, gr.HTML, BatchSection]:
    with gr.Column(elem_classes="sheet"):
        gr.HTML(markup.heading(2, "Merge", "One adapter out of all of them; nothing is trained."))
        chosen = option_widgets()
        merge = gr.Button("Merge and draw", variant="primary", elem_id="merge")
        chart = gr.HTML(visible=False, elem_id="chart")
        several = batch_section()
    return chosen, merge, chart, several


def _compare_section(
    slots: tuple[LoraCard, ...], base: str
) -> tuple[DrawForm, gr.Button, gr.Button, PicturesSection, tuple[gr.File, gr.HTML]]:
    with gr.Column(elem_classes="sheet", elem_id="compare"):
        gr.HTML(markup.heading(3, "Compare", "The same prompt and noise in every picture."))
        pictures = views()
        scene, another = draw_form_widgets(base)
        with gr.Accordion("Scores from your own pictures", open=False):
            gr.HTML(markup.paragraph("about", REFERENCES))
            for slot in slots:
                slot.references.render()
        draw = gr.Button("Draw again", elem_id="draw")
        with gr.Accordion("Load settings from a picture", open=False):
            dropped = gr.File(
                file_types=[".png"], label="A PNG that was drawn here", height=140, elem_id="like"
            )
            told = gr.HTML(visible=False, elem_id="like-said")
    pictures.wire()
    return scene, another, draw, pictures, (dropped, told)


def _dock(starters: tuple[gr.Button, ...]) -> ProgressBar:
    with gr.Row(visible=False, elem_id="dock") as bar:
        status = gr.HTML(elem_id="status")
        stop = gr.Button("Stop", variant="stop", size="sm", scale=0, min_width=110)
    return ProgressBar(bar, status, stop, starters)


def _wire_jobs(handlers: Handlers, merge: gr.Button, draw: gr.Button) -> list[Any]:
    """Merge, draw and Stop; returned are the events after which there is more in the history."""
    form, dock, shown = handlers.form, handlers.dock, handlers.outputs
    dock.stop.click(handlers.stop, form.inputs, dock.stop, **AT_ONCE)
    return [
        merge.click(handlers.merge, form.inputs, shown, **JOB),
        draw.click(handlers.draw, form.inputs, shown, **JOB),
    ]


def _wire_examples(
    listing: FileHandlers, handlers: Handlers, tries: tuple[tuple[gr.Button, Example], ...]
) -> list[Any]:
    """One click: load a bundled pair, merge it, draw the comparison; returned as above."""
    form, ends = handlers.form, []
    filled = {*form.outputs, listing.adding.problems, form.base.radio}
    for button, example in tries:
        loaded = button.click(listing.example(example), form.inputs, filled, **QUIET)
        loaded.then(listing.look, form.inputs, listing.adding.conflicts, **LOOK)
        ends.append(loaded.success(handlers.merge, form.inputs, handlers.outputs, **JOB))
    return ends

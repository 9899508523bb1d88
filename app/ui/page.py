"""The page: four steps, History, Settings, Help, and the progress bar at its foot."""

from __future__ import annotations

from typing import Any

import gradio as gr

from app.examples import Example, examples
from app.service import Studio
from app.ui.api.checked_blocks import CheckedBlocks
from app.ui.api.endpoints import ENDPOINTS, add_endpoints
from app.ui.common import AT_ONCE, QUIET
from app.ui.handlers.batch import BatchHandlers, wire_batch
from app.ui.handlers.export import ExportHandlers
from app.ui.handlers.files import LOOK, FileHandlers, wire_files
from app.ui.handlers.form import Form
from app.ui.handlers.history import HistoryHandlers, wire_history
from app.ui.handlers.jobs import Handlers
from app.ui.handlers.library import LibraryHandlers, wire_library
from app.ui.handlers.load_picture import picture_loader
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
from app.ui.sections.pictures import PicturesSection, pictures_section
from app.ui.sections.progress_bar import ProgressBar, Results
from app.ui.sections.settings import settings_section

# Jobs wait in the executor's queue, where Stop reaches them, and not in Gradio's.
JOB: dict[str, Any] = {**QUIET, "concurrency_limit": None}

REFERENCES_NOTE = (
    "Drop a few real pictures of each concept: all further pictures get a score of how similar "
    "they are. Nothing is trained on them."
)


def build(studio: Studio) -> gr.Blocks:
    """The whole app: the page and the public endpoints."""
    with CheckedBlocks(title="IterIS Studio", analytics_enabled=False) as demo:
        gr.HTML(render_template("header"), elem_id="header")
        login_button(studio.settings.login)
        pairs = examples()
        with gr.Row(elem_id="columns"):
            with gr.Column(scale=5, min_width=320):
                try_buttons = example_buttons(pairs)
                adding = add_section(studio.settings)
                options, merge, chart, batch = _merge_section()
            with gr.Column(scale=6, min_width=320):
                base = studio.settings.base
                draw_form, write_example, draw, pictures, upload = _compare_section(
                    adding.slots, base
                )
                files, export_form = export_section(studio.settings.login)
        history = history_section(studio.settings)
        settings_section(studio.settings)
        help_section()
        run_buttons = [place.run_again for place in history.places]
        dock = _dock((merge, draw, *try_buttons, batch.make, history.draw_both, *run_buttons))
        add_endpoints(studio)  # first, or events of the page would take their names
        states = (gr.State(""), gr.State([]), gr.State(None), gr.State(""))
        form = Form(*states, adding.base, adding.slots, options, draw_form)
        loader = picture_loader(form, *upload)
        results = Results(pictures, files)
        ExportHandlers(studio, form, pictures, files, export_form).wire()
        file_handlers = FileHandlers(studio, form, adding)
        handlers = Handlers(studio, form, results, dock, chart, history.message)
        history_handlers = HistoryHandlers(file_handlers, loader, handlers, history)
        wire_files(file_handlers)
        prompt_outputs = {form.suggested, draw_form.prompt, adding.problems}
        another_prompt = file_handlers.safely(form.another_prompt)
        write_example.click(another_prompt, form.inputs, prompt_outputs, **AT_ONCE)
        wire_library(LibraryHandlers(file_handlers))
        wire_history(history_handlers, JOB)
        events = [
            *_wire_jobs(handlers, merge, draw),
            wire_batch(BatchHandlers(handlers, batch), JOB),
        ]
        buttons = tuple(zip(try_buttons, pairs, strict=True))
        events += _wire_examples(file_handlers, handlers, buttons)
        look, inputs = history_handlers.look, history_handlers.inputs
        for event in events:
            event.then(look, inputs, history_handlers.list_outputs, **AT_ONCE)
    for function in demo.fns.values():
        if function.api_name not in ENDPOINTS:  # such as that of the login button
            function.api_visibility = "private"
    return demo


def _merge_section() -> tuple[OptionWidgets, gr.Button, gr.HTML, BatchSection]:
    with gr.Column(elem_classes="sheet"):
        gr.HTML(markup.heading(2, "Merge", "All LoRAs become one adapter; nothing is trained."))
        options = option_widgets()
        merge = gr.Button("Merge and draw", variant="primary", elem_id="merge")
        chart = gr.HTML(visible=False, elem_id="chart")
        batch = batch_section()
    return options, merge, chart, batch


def _compare_section(
    slots: tuple[LoraCard, ...], base: str
) -> tuple[DrawForm, gr.Button, gr.Button, PicturesSection, tuple[gr.File, gr.HTML]]:
    with gr.Column(elem_classes="sheet", elem_id="compare"):
        gr.HTML(markup.heading(3, "Compare", "The same prompt and noise in every picture."))
        pictures = pictures_section()
        draw_form, write_example = draw_form_widgets(base)
        with gr.Accordion("Scores from your own pictures", open=False):
            gr.HTML(markup.paragraph("about", REFERENCES_NOTE))
            for slot in slots:
                slot.references.render()
        draw = gr.Button("Draw again", elem_id="draw")
        with gr.Accordion("Load settings from a picture", open=False):
            picture = gr.File(
                file_types=[".png"], label="A PNG that was drawn here", height=140, elem_id="like"
            )
            message = gr.HTML(visible=False, elem_id="like-said")
    pictures.wire()
    return draw_form, write_example, draw, pictures, (picture, message)


def _dock(starters: tuple[gr.Button, ...]) -> ProgressBar:
    with gr.Row(visible=False, elem_id="dock") as bar:
        status = gr.HTML(elem_id="status")
        stop = gr.Button("Stop", variant="stop", size="sm", scale=0, min_width=110)
    return ProgressBar(bar, status, stop, starters)


def _wire_jobs(handlers: Handlers, merge: gr.Button, draw: gr.Button) -> list[Any]:
    """Connect Merge, Draw and Stop; returns the events that add to the history."""
    form, dock, outputs = handlers.form, handlers.dock, handlers.outputs
    dock.stop.click(handlers.stop, form.inputs, dock.stop, **AT_ONCE)
    return [
        merge.click(handlers.merge, form.inputs, outputs, **JOB),
        draw.click(handlers.draw, form.inputs, outputs, **JOB),
    ]


def _wire_examples(
    file_handlers: FileHandlers,
    handlers: Handlers,
    buttons: tuple[tuple[gr.Button, Example], ...],
) -> list[Any]:
    """Connect the examples: load, merge, draw; returns the events that add to the history."""
    form, events = handlers.form, []
    outputs = {*form.outputs, file_handlers.adding.problems, form.base.radio}
    for button, example in buttons:
        loaded = button.click(file_handlers.example(example), form.inputs, outputs, **QUIET)
        loaded.then(file_handlers.look, form.inputs, file_handlers.adding.conflicts, **LOOK)
        events.append(loaded.success(handlers.merge, form.inputs, handlers.outputs, **JOB))
    return events

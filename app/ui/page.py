"""The page: header, first screen, workbench, panels, and the dock at its foot."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from app.examples import Example, examples
from app.service import Studio
from app.settings.model import Settings
from app.ui.api.checked_blocks import CheckedBlocks
from app.ui.api.endpoints import ENDPOINTS, add_endpoints
from app.ui.common import AT_ONCE, QUIET, user_change
from app.ui.handlers.batch import BatchHandlers, wire_batch
from app.ui.handlers.export import ExportHandlers
from app.ui.handlers.files import LOOK, FileHandlers, wire_files
from app.ui.handlers.form import Form
from app.ui.handlers.history import HistoryHandlers, wire_history
from app.ui.handlers.jobs import Handlers
from app.ui.handlers.library import LibraryHandlers, wire_library
from app.ui.handlers.load_picture import PictureLoader
from app.ui.handlers.open_entry import EntryOpener
from app.ui.handlers.packs import wire_packs
from app.ui.handlers.restore import RestoreHandlers, wire_restore
from app.ui.handlers.tuning import TuningHandlers, wire_tuning
from app.ui.sections.add_files import AddFilesSection, OtherSources, add_section, other_sources
from app.ui.sections.base_model import BaseChoice, base_model_widgets
from app.ui.sections.batch import BatchSection, batch_section
from app.ui.sections.dock import Dock, Results, dock_section
from app.ui.sections.draw_form import DrawForm, draw_form_widgets, prompt_widgets
from app.ui.sections.export import ExportWidgets, Files, export_section
from app.ui.sections.header import header, header_html, phone_tabs
from app.ui.sections.help import help_section
from app.ui.sections.hero import comparison, example_cards, pitch
from app.ui.sections.history import HistorySection, history_section
from app.ui.sections.hub import login_button
from app.ui.sections.merge_options import OptionWidgets, option_widgets
from app.ui.sections.pictures import PicturesSection, pictures_section
from app.ui.sections.tuning import TuningSection, tuning_section

# Jobs wait in the executor's queue, where Stop reaches them, and not in Gradio's.
JOB: dict[str, Any] = {**QUIET, "concurrency_limit": None}
# Of several changes, only the last one counts.
LAST: dict[str, Any] = {**AT_ONCE, "trigger_mode": "always_last"}


@dataclass(frozen=True)
class Sections:
    """All widgets of the page, section by section."""

    top: gr.HTML
    adding: AddFilesSection
    cards: tuple[gr.Button, ...]  # of the examples
    options: OptionWidgets
    batch: BatchSection
    tuning: TuningSection
    sources: OtherSources
    draw_form: DrawForm
    chips: gr.HTML
    another: gr.Button
    pictures: PicturesSection
    files: Files
    export_form: ExportWidgets
    base: BaseChoice
    history: HistorySection
    dock: Dock


def build(studio: Studio) -> gr.Blocks:
    """The whole app: the page and the public endpoints."""
    pairs = examples()
    with CheckedBlocks(title="IterIS Studio", analytics_enabled=False) as demo:
        with gr.Column(elem_id="page"):
            sections = _sections(studio.settings, pairs)
        add_endpoints(studio)  # first, or events of the page would take their names
        _wire(studio, demo, sections, pairs)
    for function in demo.fns.values():
        # The dock shows all progress. Gradio's page would go through every output of every event
        # so far at each message of a job, and keep a core busy while it runs.
        function.show_progress_on = [sections.dock.press]
        if function.api_name not in ENDPOINTS:  # such as that of the login button
            function.api_visibility = "private"
    return demo


def _sections(settings: Settings, pairs: tuple[Example, ...]) -> Sections:
    """The widgets, in the order in which the Tab key reaches them."""
    top = header(settings.base)
    login_button(settings.login)
    phone_tabs()
    with gr.Row(elem_id="studio"):
        comparison(pairs)
        with gr.Column(elem_id="rail"):
            pitch()
            adding = add_section(settings)
            cards = example_cards(pairs)
            options, batch, tuning = _merge_section(settings)
            sources = other_sources(settings)
        with gr.Column(elem_id="stage"):
            drawing = _stage_section(settings.base)
            taking = export_section(settings.login)
    base, history = base_model_widgets(settings), history_section(settings)
    help_section(settings)
    again = [place.run_again for place in history.places]
    dock = dock_section((*cards, batch.make, tuning.find, history.draw_both, *again))
    rail = (adding, cards, options, batch, tuning, sources)
    return Sections(top, *(*rail, *drawing, *taking, base, history, dock))


def _wire(studio: Studio, demo: gr.Blocks, sections: Sections, pairs: tuple[Example, ...]) -> None:
    """Connect the sections with their handlers."""
    adding, files, history = sections.adding, sections.files, sections.history
    visit = (gr.State(""), gr.Textbox(visible="hidden", elem_id="visit"))
    states = (gr.State([]), gr.State(()), gr.State(None), gr.State(""))
    form = Form(
        *(*visit, *states, sections.base, adding.rows, adding.drawer, sections.options),
        *(sections.draw_form, sections.chips),
    )
    results = Results(sections.pictures, files)
    ExportHandlers(studio, form, sections.pictures, files, sections.export_form).wire()
    loader = PictureLoader(form)
    file_handlers = FileHandlers(studio, form, adding, loader, sections.sources)
    handlers = Handlers(studio, form, results, sections.dock, history.message)
    opener = EntryOpener(file_handlers, handlers, history.message)
    history_handlers = HistoryHandlers(opener, history)
    tuning = TuningHandlers(handlers, file_handlers, sections.tuning)
    found, used = wire_tuning(tuning, JOB)
    listed = [*wire_files(file_handlers), wire_packs(file_handlers)]
    listed += [wire_library(LibraryHandlers(file_handlers)), used]
    restoring = RestoreHandlers(handlers)
    changed, kept = restoring.keeping(handlers.change), restoring.inputs
    for event in listed:
        event.then(changed, kept, handlers.dock.readiness, **AT_ONCE)
    _wire_form(file_handlers, restoring, sections.top, sections.another)
    buttons = tuple(zip(sections.cards, pairs, strict=True))
    events = [
        *wire_history(history_handlers, JOB),
        sections.dock.press.click(handlers.press, form.inputs, handlers.outputs, **JOB),
        wire_batch(BatchHandlers(handlers, sections.batch, opener), JOB),
        found,
        *_wire_examples(file_handlers, handlers, buttons),
        *wire_restore(restoring, demo, JOB),
    ]
    look, inputs = history_handlers.look, history_handlers.inputs
    ended = restoring.keeping(lambda values: look(values) | handlers.look(values))
    shown = {*history_handlers.list_outputs, *handlers.dock.readiness}
    for event in events:
        event.then(ended, {*kept, *inputs}, shown, **AT_ONCE)
    demo.load(look, inputs, history_handlers.list_outputs, **AT_ONCE)


def _merge_section(settings: Settings) -> tuple[OptionWidgets, BatchSection, TuningSection]:
    with gr.Column(elem_id="merge"):
        return option_widgets(), batch_section(), tuning_section(settings)


def _stage_section(base: str) -> tuple[DrawForm, gr.HTML, gr.Button, PicturesSection]:
    prompt, chips, another = prompt_widgets()
    pictures = pictures_section()
    with gr.Accordion("Picture settings", open=False, elem_id="draw-form"):
        draw_form = draw_form_widgets(base, prompt)
    pictures.wire()
    return draw_form, chips, another, pictures


def _wire_form(
    file_handlers: FileHandlers, restoring: RestoreHandlers, top: gr.HTML, another: gr.Button
) -> None:
    """Connect prompt, base model and dock: the dock follows every change of a merge's settings."""
    handlers, keeping, kept = restoring.handlers, restoring.keeping, restoring.inputs
    form, dock, adding = handlers.form, handlers.dock, file_handlers.adding
    prompt = form.draw_form.prompt
    prompt_outputs = {form.suggested, prompt, adding.problems}
    another_prompt = file_handlers.safely(form.another_prompt)
    another.click(another_prompt, form.inputs, prompt_outputs, **AT_ONCE)
    prompt.change(keeping(form.chip_update), kept, form.chips, **LAST)
    gr.on(
        [form.base.radio.change, form.base.other.change],
        lambda values: {top: header_html(form.base.name(values))},
        form.inputs,
        {top},
        **LAST,
    )
    of_a_merge = [*vars(form.base).values(), *form.options.all, *form.lora_settings]
    changes = [user_change(widget) for widget in of_a_merge]
    gr.on(changes, keeping(handlers.change), kept, dock.readiness, **LAST)
    drawing = {**vars(form.draw_form), "prompt": None}.values()
    costs = [prompt.blur, *(user_change(widget) for widget in drawing if widget)]
    gr.on(costs, keeping(handlers.look), kept, dock.readiness, **LAST)
    stage = handlers.results.views.stage
    kept = {form.draw_form.seed, form.draw_form.count, dock.status}
    stage.select(handlers.keep_seed, None, kept, **AT_ONCE)
    dock.stop.click(handlers.stop, form.inputs, dock.stop, **AT_ONCE)


def _wire_examples(
    file_handlers: FileHandlers,
    handlers: Handlers,
    buttons: tuple[tuple[gr.Button, Example], ...],
) -> list[Any]:
    """Connect the examples: load, merge, draw; returns the events that add to the history."""
    form, events = handlers.form, []
    outputs = {*form.outputs, *file_handlers.bases.outputs, form.draw_form.seed}
    for button, example in buttons:
        loaded = button.click(file_handlers.example(example), form.inputs, outputs, **QUIET)
        loaded.then(file_handlers.look, form.inputs, file_handlers.adding.conflicts, **LOOK)
        events.append(loaded.success(handlers.press, form.inputs, handlers.outputs, **JOB))
    return events

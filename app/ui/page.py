"""The page, section by section: Add, Merge, Compare, Download, and the dock at its foot."""

from __future__ import annotations

from typing import Any

import gradio as gr

from app.service import Studio
from app.settings import Settings
from app.shelf import Example, examples
from app.ui import markup
from app.ui.api import add_endpoints
from app.ui.forms import AT_ONCE, BaseChoice, Form, Options, Scene, Slot, base_choice, options, slot
from app.ui.handlers import Handlers
from app.ui.results import Dock, Results

QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
# Jobs stand in the executor's line, where Stop reaches them; Gradio's own line must not hold them.
JOB: dict[str, Any] = {**QUIET, "concurrency_limit": None}


def build(studio: Studio) -> gr.Blocks:
    """The whole app: the page and the public endpoints."""
    with gr.Blocks(title="IterIS Studio", analytics_enabled=False) as demo:
        gr.HTML(markup.HEADER, elem_id="header")
        shelf = examples()
        with gr.Row(elem_id="columns"):
            with gr.Column(scale=5, min_width=320):
                tries = _examples(shelf)
                upload, problems, slots, base = _add_section(studio.settings)
                chosen, merge = _merge_section()
            with gr.Column(scale=6, min_width=320):
                scene, draw, *pictures = _compare_section()
                results = _download_section(*pictures)
        dock = _dock((merge, draw, *tries))
        add_endpoints(studio)  # before the page's own events, which would take their names
        states = (gr.State(""), gr.State([]), gr.State(None), gr.State(""))
        form = Form(*states, base, slots, chosen, scene)
        handlers = Handlers(studio, form, results, dock, upload, problems)
        _wire_files(handlers, upload, problems)
        _wire_jobs(handlers, merge, draw, tuple(zip(tries, shelf, strict=True)))
    return demo


def _examples(shelf: tuple[Example, ...]) -> tuple[gr.Button, ...]:
    if not shelf:
        return ()
    with gr.Column(elem_id="examples", elem_classes="sheet"):
        gr.HTML(markup.TRY)
        with gr.Row():
            return tuple(
                gr.Button(f"Try it: {shown.title}", size="sm", min_width=130) for shown in shelf
            )


def _add_section(settings: Settings) -> tuple[gr.File, gr.HTML, tuple[Slot, ...], BaseChoice]:
    with gr.Column(elem_classes="sheet"):
        gr.HTML(markup.heading(1, "Add LoRAs", "Two or more, made for the same base model."))
        upload = gr.File(
            file_count="multiple",
            file_types=[".safetensors"],
            label="LoRA files (.safetensors)",
            show_label=False,
            height=148,
            elem_id="upload",
        )
        problems = gr.HTML(visible=False)
        slots = tuple(slot() for _ in range(settings.max_files))
        base = base_choice(settings)
    return upload, problems, slots, base


def _merge_section() -> tuple[Options, gr.Button]:
    with gr.Column(elem_classes="sheet"):
        gr.HTML(markup.heading(2, "Merge", "One adapter out of all of them; nothing is trained."))
        chosen = options()
        merge = gr.Button("Merge and draw", variant="primary", elem_id="merge")
    return chosen, merge


def _compare_section() -> tuple[Scene, gr.Button, gr.Gallery, gr.HTML]:
    with gr.Column(elem_classes="sheet", elem_id="compare"):
        gr.HTML(markup.heading(3, "Compare", "The same prompt and noise in every picture."))
        blank = gr.HTML(markup.NO_PICTURES)
        gallery = gr.Gallery(
            visible=False,
            show_label=False,
            label="Pictures",
            columns=3,
            height="auto",
            object_fit="contain",
            format="png",
            interactive=False,
            buttons=["download", "fullscreen"],
            elem_id="pictures",
        )
        prompt = gr.Textbox(
            "",
            label="Prompt",
            lines=2,
            placeholder="Written for you from the trigger words; change it as you like.",
            elem_id="prompt",
        )
        with gr.Row():
            seed = gr.Number(0, label="Seed", precision=0, minimum=0, min_width=90)
            steps = gr.Slider(1, 100, 25, step=1, label="Steps", min_width=140)
            guidance = gr.Slider(0, 15, 5, step=0.5, label="Guidance", min_width=140)
        draw = gr.Button("Draw again", elem_id="draw")
    return Scene(prompt, seed, steps, guidance), draw, gallery, blank


def _download_section(gallery: gr.Gallery, blank: gr.HTML) -> Results:
    with gr.Column(elem_classes="sheet"):
        gr.HTML(markup.heading(4, "Download", "One file that loads like any other LoRA."))
        empty = gr.HTML(markup.NOTHING_YET)
        with gr.Column(visible=False, elem_id="download") as ready:
            summary = gr.HTML(elem_id="summary")
            with gr.Row():
                kohya = gr.DownloadButton(
                    "A1111 · Forge · ComfyUI · InvokeAI", variant="primary", size="md", scale=3
                )
                diffusers = gr.DownloadButton("diffusers · PEFT", size="md", scale=2)
            with gr.Accordion("Recipe (it is also inside the file)", open=False):
                recipe = gr.Code(language="json", interactive=False, max_lines=24)
    return Results(gallery, blank, empty, ready, summary, kohya, diffusers, recipe)


def _dock(starters: tuple[gr.Button, ...]) -> Dock:
    with gr.Row(visible=False, elem_id="dock") as bar:
        status = gr.HTML(elem_id="status")
        stop = gr.Button("Stop", variant="stop", size="sm", scale=0, min_width=110)
    return Dock(bar, status, stop, starters)


def _wire_files(handlers: Handlers, upload: gr.File, problems: gr.HTML) -> None:
    """Files come, go, and are looked at anew when the base changes."""
    form = handlers.form
    changed = {*form.outputs, problems}
    upload.upload(handlers.add_files, {*form.inputs, upload}, {*changed, upload}, **QUIET)
    for place, taken in enumerate(form.slots):
        taken.remove.click(handlers.remove(place), form.inputs, changed, **AT_ONCE)
    form.base.radio.input(handlers.rebase, form.inputs, form.outputs, **AT_ONCE)


def _wire_jobs(
    handlers: Handlers,
    merge: gr.Button,
    draw: gr.Button,
    tries: tuple[tuple[gr.Button, Example], ...],
) -> None:
    """Merge, draw, the one-click examples, and Stop."""
    form, dock = handlers.form, handlers.dock
    shown = {*dock.outputs, *handlers.results.outputs, form.merged, form.suggested}
    shown.add(form.scene.prompt)
    merge.click(handlers.merge, form.inputs, shown, **JOB)
    draw.click(handlers.draw, form.inputs, shown, **JOB)
    dock.stop.click(handlers.stop, form.inputs, dock.stop, **AT_ONCE)
    filled = {*form.outputs, handlers.problems, form.base.radio}
    for button, example in tries:
        loaded = button.click(handlers.example(example), form.inputs, filled, **QUIET)
        loaded.success(handlers.merge, form.inputs, shown, **JOB)

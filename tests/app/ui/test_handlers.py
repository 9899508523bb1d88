"""What a job's last update brings, whatever came before it."""

from __future__ import annotations

from collections.abc import Generator
from typing import cast

import gradio as gr
import pytest

from app.service import Studio
from app.ui.common import Updates
from app.ui.handlers.form import Form
from app.ui.handlers.jobs import Handlers
from app.ui.sections.dock import Dock, Results
from app.ui.sections.export import export_section
from app.ui.sections.pictures import pictures_section
from merging.errors import Cancelled, MergeError


@pytest.fixture
def handlers() -> Handlers:
    """Handlers over widgets of their own; a job's updates need neither service nor form."""
    with gr.Blocks():
        dock = Dock(gr.HTML(), gr.Button(), gr.Button(), (gr.Button(),))
        results = Results(pictures_section(), export_section()[0])
        nobody, form = cast(Studio, None), cast(Form, None)
        return Handlers(nobody, form, results, dock, gr.HTML())


@pytest.mark.parametrize("ending", [None, Cancelled(), MergeError("no"), RuntimeError("broken")])
def test_the_last_update_brings_the_newest_results(
    handlers: Handlers, ending: Exception | None
) -> None:
    """A page that lost an update in a burst, as on a busy machine, has all of them in the end."""
    results, dock = handlers.results, handlers.dock

    def job() -> Generator[Updates, None, None]:
        yield {results.views.stage: "one picture", results.files.summary: "merged"}
        yield {dock.status: "drawing"}
        yield {results.views.stage: "two pictures"}
        if ending is not None:
            raise ending

    *_, last = handlers.run_job(job(), "Starting")
    assert last[results.views.stage] == "two pictures"
    assert last[results.files.summary] == "merged"
    assert last[dock.status] != "drawing"

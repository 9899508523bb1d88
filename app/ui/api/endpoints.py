"""The public endpoints, for gradio_client, plain HTTP and language models."""

from __future__ import annotations

import gradio as gr

from app.service import Studio
from app.ui.api.endpoint import client_errors
from app.ui.api.inspect import add_inspect
from app.ui.api.merge import add_merge
from app.ui.api.render import add_render
from app.ui.api.suggest import add_suggest
from app.ui.api.tune import add_tune

# All other events of the page are private.
ENDPOINTS = ("inspect", "methods", "merge", "render", "suggest", "tune")


def add_endpoints(studio: Studio) -> None:
    """All of them, with hidden widgets."""
    with gr.Group(visible=False):
        add_inspect(studio, client_errors)
        add_merge(studio)
        add_render(studio)
        add_suggest(studio)
        add_tune(studio)

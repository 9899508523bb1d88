"""The public endpoints, for gradio_client, plain HTTP and language models."""

from __future__ import annotations

import gradio as gr

from app.service import Studio
from app.ui.api.endpoint import shown_to_client
from app.ui.api.inspect import add_reading
from app.ui.api.merge import add_merge
from app.ui.api.render import add_render

ENDPOINTS = ("inspect", "methods", "merge", "render")  # and no other event is to be called


def add_endpoints(studio: Studio) -> None:
    """/inspect, /methods, /merge and /render, behind widgets that nobody sees."""
    with gr.Group(visible=False):
        add_reading(studio, shown_to_client)
        add_merge(studio)
        add_render(studio)

"""The top of the page: its name, the base model, and the panels that open below."""

from __future__ import annotations

from pathlib import Path

import gradio as gr

from app.ui.html.rendering import render_template
from merging.base_models import BASE_MODELS


def header(base: str) -> gr.HTML:
    """The header, with the name of the chosen base model."""
    return gr.HTML(header_html(base), elem_id="header")


def phone_tabs() -> None:
    """Where there is no room for two columns, one part of the workbench is shown at a time."""
    gr.HTML(render_template("tabs"), elem_id="tabs-row")


def header_html(base: str) -> str:
    """The header; a known base model goes by the first part of its label, another by its name."""
    known = BASE_MODELS.get(base)
    title = known.label.split(" · ")[0] if known else Path(base).name or "No base model"
    return render_template("header", base=title)

"""The help panel: what to do when a merge does not work as hoped; at home also the settings."""

from __future__ import annotations

from pathlib import Path

import gradio as gr

from app.settings.model import Settings
from app.ui.html.fragments import panel_title
from app.ui.sections.settings import settings_section

TEXT = Path(__file__).with_name("help.md")


def help_section(settings: Settings) -> None:
    """The panel, closed."""
    with gr.Column(elem_id="help", elem_classes="sheet"):
        gr.HTML(panel_title("Help", "Triggers, weak merges, which method when."))
        gr.Markdown(TEXT.read_text(encoding="utf-8"))
        settings_section(settings)

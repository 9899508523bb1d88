"""The help text: what to do when a merge does not work as hoped."""

from __future__ import annotations

from pathlib import Path

import gradio as gr

TEXT = Path(__file__).with_name("help.md")


def help_section() -> None:
    """The section, folded, at the foot of the page."""
    with gr.Accordion("Help: triggers, weak merges, which method when", open=False, elem_id="help"):
        gr.Markdown(TEXT.read_text(encoding="utf-8"))

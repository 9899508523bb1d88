"""Colours and fonts of the page; only fonts of the system, so nothing is downloaded."""

from __future__ import annotations

from pathlib import Path

import gradio as gr

STYLES = sorted(Path(__file__).with_name("styles").glob("*.css"))
SCRIPTS = [Path(__file__).with_name(name) for name in ("script.js", "painter.js")]

IRIS = gr.themes.Color(
    c50="#f5f4ff",
    c100="#ecebfe",
    c200="#dad8fd",
    c300="#bfbafb",
    c400="#9d95f5",
    c500="#7b70ec",
    c600="#6152d9",
    c700="#5041b8",
    c800="#423694",
    c900="#373075",
    c950="#221c4c",
    name="iris",
)
SANS = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "sans-serif"]
MONO = ["ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace"]


def script() -> str:
    """All that the page does in the browser alone: one function, which Gradio calls."""
    parts = (path.read_text(encoding="utf-8") for path in SCRIPTS)
    return f"() => {{ {' '.join(f'({part.strip()})();' for part in parts)} }}"


def theme() -> gr.themes.Base:
    """Gradio's default theme in our colours."""
    return gr.themes.Default(
        primary_hue=IRIS,
        secondary_hue=IRIS,
        neutral_hue=gr.themes.colors.slate,
        radius_size=gr.themes.sizes.radius_md,
        font=SANS,
        font_mono=MONO,
    ).set(
        body_background_fill="*neutral_50",
        body_background_fill_dark="*neutral_950",
        block_background_fill="white",
        block_background_fill_dark="*neutral_900",
        block_border_width="1px",
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_400",
        block_label_text_color="*neutral_600",
        block_label_text_color_dark="*neutral_300",
        block_info_text_color="*neutral_500",
        block_info_text_color_dark="*neutral_400",
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
        button_primary_background_fill_dark="*primary_600",
        button_primary_background_fill_hover_dark="*primary_700",
        button_primary_text_color="white",
        button_cancel_background_fill="#c02626",
        button_cancel_background_fill_dark="#c02626",
        button_cancel_background_fill_hover="#9f1f1f",
        button_cancel_background_fill_hover_dark="#9f1f1f",
        slider_color="*primary_500",
    )

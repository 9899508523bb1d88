"""The settings on the page, at home only: what the next start reads from settings.toml."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from html import escape
from typing import Any, get_args

import gradio as gr

from app.settings.load import VARIABLES
from app.settings.model import Settings
from app.settings.save import DEFAULTS, at_next_start, save
from app.ui.common import AT_ONCE, Updates, Values, tried
from app.ui.html import fragments as markup
from merging.base_models import BASE_MODELS
from merging.options import DEVICES, Precision

ROWS = {  # name in the file → what it is called here, and what is said of it; row by row
    "The base model at first, and where it works": {
        "base": ("Base model", "mini, sd15, a folder in diffusers layout, or a Hub id"),
        "device": ("Device", "auto takes the best that is there"),
        "precision": ("Precision", "auto is fp32 on a CPU, fp16 elsewhere"),
        "mcp": ("Tools for language models", "on lets them call the endpoints"),
    },
    "Folders and address": {
        "home": ("Folder of library and history", "off for none"),
        "work": ("Folder of visitors’ files", "a named one is not removed at the end"),
        "host": (
            "Address",
            "any but this machine’s own makes the app public, without this section",
        ),
        "port": ("Port", "1 to 65535"),
    },
    "Limits of files": {
        "max_files": ("LoRAs of one merge", "2 to 16"),
        "max_mb": ("MB of one file", "1 to 4000"),
        "max_history_mb": ("MB of the history", "beyond it the oldest go first"),
    },
    "Limits of jobs and visits": {
        "max_waiting": ("Jobs in line", "1 to 1000, of all visitors"),
        "max_minutes": ("Minutes of one job", "0.01 to 10000"),
        "keep_hours": ("Hours that idle files live", "0.01 to 10000, of each visitor"),
    },
}
CHOICES = {
    "base": tuple(BASE_MODELS),
    "device": DEVICES,
    "precision": get_args(Precision),
    "mcp": ("off", "on"),
}
FREE = ("base", "device")  # may be another than the offered ones, such as cuda:1
UNSAID = {"home": "~/.iteris-studio", "work": "a temporary one"}


@dataclass(frozen=True)
class Preferences:
    """The section's widgets and behaviour."""

    settings: Settings
    section: gr.Accordion
    widgets: dict[str, Any]  # by the names in the file
    keep: gr.Button
    said: gr.HTML

    @property
    def inputs(self) -> set[Any]:
        """What a person can change."""
        return {self.widgets[name] for name in VARIABLES if name not in self.settings.above}

    @property
    def outputs(self) -> set[Any]:
        """All that is shown."""
        return {self.said, *self.widgets.values()}

    def look(self) -> Updates:
        """Every setting as the next start would find it."""
        return tried(self.said, lambda: self._filled() | {self.said: gr.HTML(visible=False)})

    def save(self, values: Values) -> Updates:
        """What was changed goes into the file."""
        return tried(self.said, lambda: self._saved(values))

    def _filled(self) -> Updates:
        found = at_next_start(self.settings)
        return {widget: found[name] for name, widget in self.widgets.items()}

    def _saved(self, values: Values) -> Updates:
        wanted = {name: values[each] for name, each in self.widgets.items() if each in values}
        changed = save(self.settings, wanted)
        told = (
            f"Saved in settings.toml: {', '.join(changed)}. It holds from the next start on."
            if changed
            else "Nothing is changed, so nothing was written."
        )
        return self._filled() | {self.said: gr.HTML(markup.sentences([told]), visible=True)}


def settings_section(settings: Settings) -> None:
    """Folded, before the help, where the app is on a person's own machine; nothing elsewhere."""
    if settings.file is None:
        return
    with gr.Accordion("Settings for the next start", open=False, elem_id="settings") as section:
        gr.HTML(_about(settings))
        widgets = {}
        for title, row in ROWS.items():
            gr.HTML(f"<h3>{escape(title)}</h3>")
            with gr.Row():
                for name, (label, info) in row.items():
                    fixed = name in settings.above
                    widgets[name] = _widget(name)(
                        label=label,
                        info=f"{name}: {info}",
                        interactive=not fixed,
                        min_width=220,
                    )
        open_ones = len(settings.above) < len(VARIABLES)
        keep = gr.Button("Save", size="md", interactive=open_ones, elem_id="save-settings")
        said = gr.HTML(visible=False, elem_id="settings-said")
    wire_settings(Preferences(settings, section, widgets, keep, said))


def wire_settings(own: Preferences) -> None:
    """Opening shows what holds; Save writes it."""
    own.section.expand(own.look, None, own.outputs, **AT_ONCE)
    own.keep.click(own.save, own.inputs, own.outputs, **AT_ONCE)


def _widget(name: str) -> Callable[..., Any]:
    """The kind of widget that a setting has, to be made with its words."""
    if name in FREE:
        return partial(gr.Dropdown, CHOICES[name], value=DEFAULTS[name], allow_custom_value=True)
    if name in CHOICES:
        return partial(gr.Radio, CHOICES[name], value=DEFAULTS[name])
    if isinstance(DEFAULTS[name], str):
        return partial(gr.Textbox, DEFAULTS[name], placeholder=UNSAID.get(name), max_lines=1)
    return partial(gr.Number, DEFAULTS[name])


def _about(settings: Settings) -> str:
    """What Save does, and what it cannot do."""
    told = (
        "The app reads these once, when it starts. Save writes them into settings.toml, in the "
        "folder where it was started, and all of it holds from the next start on. An empty field "
        "stands for the default."
    )
    fixed = ", ".join(
        f"{name} ({VARIABLES[name]} or --{name.replace('_', '-')})" for name in settings.above
    )
    over = (
        f" Set by the environment or a flag, which go before the file, and so not to be changed "
        f"here: {fixed}."
    )
    return f'<p class="about">{escape(told + over if fixed else told)}</p>'

"""The settings on the page, at home only: what the next start reads from settings.toml."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import Any

import gradio as gr

from app.settings.model import SETTINGS, Settings
from app.settings.save import at_next_start, save
from app.settings.setting import Setting
from app.ui.common import AT_ONCE, Updates, Values, updates_or_problem
from app.ui.html import fragments as markup
from app.ui.html.rendering import render_template


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
        return {self.widgets[name] for name in SETTINGS if name not in self.settings.above}

    @property
    def outputs(self) -> set[Any]:
        """All that is shown."""
        return {self.said, *self.widgets.values()}

    def look(self) -> Updates:
        """Every setting as the next start would find it."""
        return updates_or_problem(
            self.said, lambda: self._filled() | {self.said: gr.HTML(visible=False)}
        )

    def save(self, values: Values) -> Updates:
        """What was changed goes into the file."""
        return updates_or_problem(self.said, lambda: self._saved(values))

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
        return self._filled() | {self.said: gr.HTML(markup.messages([told]), visible=True)}


def settings_section(settings: Settings) -> None:
    """Folded, before the help, where the app is on a person's own machine; nothing elsewhere."""
    if settings.file is None:
        return
    with gr.Accordion("Settings for the next start", open=False, elem_id="settings") as section:
        gr.HTML(_about(settings))
        widgets = {}
        for title, row in groupby(SETTINGS.values(), lambda each: each.section):
            gr.HTML(render_template("title", title=title))
            with gr.Row():
                for each in row:
                    widgets[each.name] = _widget(each, interactive=each.name not in settings.above)
        open_ones = len(settings.above) < len(SETTINGS)
        keep = gr.Button("Save", size="md", interactive=open_ones, elem_id="save-settings")
        said = gr.HTML(visible=False, elem_id="settings-said")
    wire_settings(Preferences(settings, section, widgets, keep, said))


def wire_settings(own: Preferences) -> None:
    """Opening shows what holds; Save writes it."""
    own.section.expand(own.look, None, own.outputs, **AT_ONCE)
    own.keep.click(own.save, own.inputs, own.outputs, **AT_ONCE)


def _widget(shown: Setting, interactive: bool) -> Any:
    """The widget of the kind that a setting needs, at its default."""
    kind, more = _kind(shown)
    info = ": ".join(filter(None, [shown.name, shown.hint]))
    return kind(
        value=shown.default,
        label=shown.title,
        info=info,
        interactive=interactive,
        min_width=220,
        **more,
    )


def _kind(shown: Setting) -> tuple[type[gr.components.Component], dict[str, Any]]:
    if shown.offered:
        return gr.Dropdown, {"choices": shown.offered, "allow_custom_value": True}
    if shown.choices:
        return gr.Radio, {"choices": shown.choices}
    if shown.is_number:
        return gr.Number, {}
    return gr.Textbox, {"placeholder": shown.unset or None, "max_lines": 1}


def _about(settings: Settings) -> str:
    """What Save does, and what it cannot do."""
    text = (
        "The app reads these once, when it starts. Save writes them into settings.toml, in the "
        "folder where it was started; they take effect at the next start. An empty field stands "
        "for the default."
    )
    fixed = [SETTINGS[name] for name in settings.above]
    if fixed:
        listed = ", ".join(f"{each.name} ({each.variable} or {each.flag})" for each in fixed)
        text += (
            " Set by the environment or a flag, which override the file, and so not to be changed "
            f"here: {listed}."
        )
    return markup.paragraph("about", text)

"""The settings for the next start, written to settings.toml; only on the user's own machine."""

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
class SettingsSection:
    """The widgets and their behaviour."""

    settings: Settings
    section: gr.Accordion
    widgets: dict[str, Any]  # by setting name
    save_button: gr.Button
    message: gr.HTML

    @property
    def inputs(self) -> set[Any]:
        """The settings that can be changed here."""
        return {self.widgets[name] for name in SETTINGS if name not in self.settings.above}

    @property
    def outputs(self) -> set[Any]:
        """Everything that changes."""
        return {self.message, *self.widgets.values()}

    def look(self) -> Updates:
        """Show every setting as the next start would read it."""
        return updates_or_problem(
            self.message, lambda: self._filled() | {self.message: gr.HTML(visible=False)}
        )

    def save(self, values: Values) -> Updates:
        """Write the changed settings to the file."""
        return updates_or_problem(self.message, lambda: self._saved(values))

    def _filled(self) -> Updates:
        values = at_next_start(self.settings)
        return {widget: values[name] for name, widget in self.widgets.items()}

    def _saved(self, values: Values) -> Updates:
        widgets = self.widgets.items()
        new_values = {name: values[widget] for name, widget in widgets if widget in values}
        changed = save(self.settings, new_values)
        text = (
            f"Saved in settings.toml: {', '.join(changed)}. The next start uses it."
            if changed
            else "Nothing has changed, so nothing was written."
        )
        return self._filled() | {self.message: gr.HTML(markup.messages([text]), visible=True)}


def settings_section(settings: Settings) -> None:
    """The section, folded, if there is a settings file; nothing on a public server."""
    if settings.file is None:
        return
    with gr.Accordion("Settings for the next start", open=False, elem_id="settings") as section:
        gr.HTML(_about(settings))
        widgets = {}
        for title, row in groupby(SETTINGS.values(), lambda setting: setting.section):
            gr.HTML(render_template("title", title=title))
            with gr.Row():
                for setting in row:
                    fixed = setting.name in settings.above
                    widgets[setting.name] = _widget(setting, interactive=not fixed)
        can_save = len(settings.above) < len(SETTINGS)
        save_button = gr.Button("Save", size="md", interactive=can_save, elem_id="save-settings")
        message = gr.HTML(visible=False, elem_id="settings-said")
    wire_settings(SettingsSection(settings, section, widgets, save_button, message))


def wire_settings(preferences: SettingsSection) -> None:
    """Opening shows the settings; Save writes them."""
    preferences.section.expand(preferences.look, None, preferences.outputs, **AT_ONCE)
    inputs, outputs = preferences.inputs, preferences.outputs
    preferences.save_button.click(preferences.save, inputs, outputs, **AT_ONCE)


def _widget(setting: Setting, interactive: bool) -> Any:
    """The widget of a setting, at its default."""
    kind, options = _kind(setting)
    info = ": ".join(filter(None, [setting.name, setting.hint]))
    return kind(
        value=setting.default,
        label=setting.title,
        info=info,
        interactive=interactive,
        min_width=220,
        **options,
    )


def _kind(setting: Setting) -> tuple[type[gr.components.Component], dict[str, Any]]:
    if setting.offered:
        return gr.Dropdown, {"choices": setting.offered, "allow_custom_value": True}
    if setting.choices:
        return gr.Radio, {"choices": setting.choices}
    if setting.is_number:
        return gr.Number, {}
    return gr.Textbox, {"placeholder": setting.unset or None, "max_lines": 1}


def _about(settings: Settings) -> str:
    """What Save does, and which settings it cannot change."""
    text = (
        "The app reads these settings when it starts. Save writes them to settings.toml in the "
        "folder where the app was started; they take effect at the next start. An empty field "
        "means the default."
    )
    fixed = [SETTINGS[name] for name in settings.above]
    if fixed:
        names = ", ".join(
            f"{setting.name} ({setting.variable} or {setting.flag})" for setting in fixed
        )
        text += (
            " Set by an environment variable or a flag, which override the file; cannot be changed "
            f"here: {names}."
        )
    return markup.paragraph("about", text)

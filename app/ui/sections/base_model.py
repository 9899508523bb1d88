"""The panel with the choice of the base model."""

from __future__ import annotations

from dataclasses import dataclass

import gradio as gr

from app.settings.model import Settings
from app.ui.common import AT_ONCE, Updates, Values
from app.ui.html import fragments as markup
from merging.base_models import BASE_MODELS

OTHER = "other"
TITLES = {"auto": "automatic"}  # of a precision


@dataclass(frozen=True)
class BaseChoice:
    """The widgets of the base model."""

    radio: gr.Radio
    other: gr.Textbox
    precision: gr.Radio

    def updates_for(self, name: str) -> Updates:
        """The widgets set to a base model."""
        is_listed = name in {value for _, value in self.radio.choices if value != OTHER}
        return {self.radio: name if is_listed else OTHER, self.other: "" if is_listed else name}

    def name(self, values: Values) -> str:
        """Name, folder or Hub id of the chosen base model."""
        chosen = values[self.radio]
        return values[self.other].strip() if chosen == OTHER else chosen


def base_model_widgets(settings: Settings) -> BaseChoice:
    """The known base models, the one in the settings, and at home any other."""
    choices = [(model.label, model.name) for model in BASE_MODELS.values()]
    if settings.base not in BASE_MODELS:
        choices.append((settings.base, settings.base))
    if settings.free_base:
        choices.append(("Another folder, .safetensors file or Hub id", OTHER))
    with gr.Column(elem_id="base", elem_classes="sheet"):
        gr.HTML(markup.panel_title("Base model", "All LoRAs of a merge were made for one."))
        radio = gr.Radio(choices, value=settings.base, label="Base model", show_label=False)
        other = gr.Textbox(
            "",
            label="Folder in diffusers layout, .safetensors checkpoint, or Hub id",
            placeholder="/models/my-sd15.safetensors or owner/name",
            visible=False,
        )
        precision = gr.Radio(
            [(TITLES.get(name, name), name) for name in settings.precisions],
            value=settings.precision,
            label="Precision of the base model",
            info="Automatic: fp32 on a CPU, fp16 elsewhere.",
        )
    radio.change(lambda name: gr.Textbox(visible=name == OTHER), radio, other, **AT_ONCE)
    return BaseChoice(radio, other, precision)

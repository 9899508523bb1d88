"""How to merge: the method, a preset, and the options of the method.

The widgets are made from the declarations in merging/options.py, one per option.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

import gradio as gr

from app.ui.common import AT_ONCE, Updates, Values, user_change
from app.ui.html import fragments as markup
from app.ui.html.rendering import render_template
from merging.errors import MergeError
from merging.methods import METHODS
from merging.option_field import RANKS, Option
from merging.options import Dtype, MergeOptions, merge_options, options_by_stage
from merging.presets import PRESETS, preset_of, preset_options

USUAL = {  # a title and a reason for each of the methods that most people need
    "iteris": ("Keep both (IterIS)", "Learns from prompts what each LoRA does, and keeps it."),
    "tsv": ("Quick (TSV)", "No prompts, seconds; next best for two subjects."),
    "sum": ("As loaded together (sum)", "What your program does with both LoRAs on."),
}
FIXED = "fixed"  # the choice that shows the field for a number
RANK_TITLES = {"exact": "exact", "auto": "automatic", "full": "uncut"}
MOST_OF_A_SLIDER = 1000  # a number that may be larger is typed
SLIDER_MAX = 200  # calibration prompts; more help little


@dataclass(frozen=True)
class OptionWidgets:
    """The widgets of all options; all but the method are in a fold."""

    by_option: Mapping[str, Any]  # option name → widget
    preset: gr.Radio
    rank_number: gr.Number
    dtype: gr.Radio

    def __getitem__(self, name: str) -> Any:
        return self.by_option[name]

    @property
    def all(self) -> list[Any]:
        """Every widget."""
        return [*self.by_option.values(), self.preset, self.rank_number, self.dtype]

    def order(self, values: Values) -> dict[str, Any]:
        """The options as fields of a MergeOrder; MergeError if a text is no number."""
        options = merge_options()
        typed = {name: values[widget] for name, widget in self.by_option.items()}
        if typed["rank"] == FIXED:
            typed["rank"] = int(values[self.rank_number] or 0)
        fields = {name: read_value(options[name], value) for name, value in typed.items()}
        return fields | {"dtype": values[self.dtype]}

    def show(self, options: Mapping[str, Any]) -> Updates:
        """The widgets set to a recipe; options that are missing or invalid stay as they are."""
        updates: Updates = {}
        for option in merge_options().values():
            if option.name in options and is_value(option, options[option.name]):
                updates |= self._shown(option, options[option.name])
        return updates | {self.preset: preset_of(options)}

    def _shown(self, option: Option, value: Any) -> Updates:
        if option.kind == "rank" and value not in RANKS:
            return {self["rank"]: FIXED, self.rank_number: value}
        return {self[option.name]: widget_value(option, value)}

    @property
    def method_dependent(self) -> set[Any]:
        """The widgets that only some methods use."""
        always = ("method", "rank")
        return {self.preset, *(self[name] for name in self.by_option if name not in always)}

    def shown_for(self, method: str) -> Updates:
        """Show the options of this method, hide the others."""
        options, used = merge_options(), METHODS[method]
        shown = {self[name] for name in self.by_option if used.uses(options[name])}
        shown |= {self.preset} if used.calibrated else set()
        return {widget: type(widget)(visible=widget in shown) for widget in self.method_dependent}

    def at_preset(self, name: str) -> Updates:
        """The widgets set to a preset."""
        options = merge_options()
        return {
            self[key]: widget_value(options[key], value)
            for key, value in preset_options(name).items()
        }


def option_widgets() -> OptionWidgets:
    """All widgets that say how to merge."""
    method = method_choice()
    gr.Checkbox(False, label="Other methods…", container=False, elem_id="all-methods")
    about = gr.HTML(method_about(MergeOptions.method), elem_id="about-method")
    with gr.Accordion("Settings of the merge", open=False, elem_id="advanced"):
        preset = gr.Radio(
            [(preset.title, name) for name, preset in PRESETS.items()],
            value="best",
            label="How thorough",
            info=". ".join(f"{preset.title}: {preset.help}" for preset in PRESETS.values()) + ".",
        )
        others = {
            option.name: option_widget(option)
            for option in options_by_stage()
            if option.kind != "method"
        }
        number, dtype = _rank_number(others["rank"]), _file_precision()
    widgets = OptionWidgets({"method": method, **others}, preset, number, dtype)
    _connect(widgets, about)
    return widgets


def _connect(widgets: OptionWidgets, about: gr.HTML) -> None:
    """A method shows its options; a preset sets some; changing one of these deselects it."""
    method, preset = widgets["method"], widgets.preset
    method.change(method_about, method, about, **AT_ONCE)
    method.change(widgets.shown_for, method, widgets.method_dependent, **AT_ONCE)
    preset_widgets = [widgets[name] for name in preset_options("best")]
    preset.input(widgets.at_preset, preset, set(preset_widgets), **AT_ONCE)
    changes = [user_change(widget) for widget in preset_widgets]
    gr.on(changes, lambda: None, None, preset, **AT_ONCE)


def method_about(name: str) -> str:
    """What the method does, and what strength means to it."""
    return markup.method(METHODS[name])


def method_choice() -> gr.Radio:
    """The three ways that most people need with a reason each; a fold has all other methods."""
    groups = method_groups()
    gr.HTML(render_template("method_groups", groups=groups, usual=len(USUAL)), elem_id="groups")
    choices = [(method_text(name), name) for names in groups.values() for name in names]
    return gr.Radio(
        choices,
        value=MergeOptions.method,
        label="Method",
        show_label=False,
        elem_id="method",
    )


def method_groups() -> dict[str, list[str]]:
    """All methods: the usual ones, then the others by what they need, under the group's title."""
    others = [name for name in METHODS if name not in USUAL]
    return {
        "": list(USUAL),
        "From the weights alone: seconds": [n for n in others if not METHODS[n].calibrated],
        "With calibration prompts: slower": [n for n in others if METHODS[n].calibrated],
    }


def method_text(name: str) -> str:
    """Title and sentence of a method, in two lines."""
    return "\n".join(USUAL.get(name, (METHODS[name].title, METHODS[name].summary)))


def option_widget(option: Option) -> Any:
    """The widget of one option, at its default."""
    about = {"label": option.title, "info": option.help}
    value = widget_value(option, option.default)
    if option.kind == "choice":
        choices = [(title, choice) for choice, title in option.choices.items()]
        return gr.Radio(choices, value=value, **about)
    if option.kind == "rank":
        choices = [(RANK_TITLES[rank], rank) for rank in RANKS]
        return gr.Radio([*choices[:2], ("fixed", FIXED), *choices[2:]], value=value, **about)
    if option.optional:
        about["info"] += f" Empty: {option.unset}."
        return gr.Textbox(value, **about, placeholder="automatic", max_lines=1, min_width=140)
    if option.kind == "whole" and 0 < (option.highest or 0) <= MOST_OF_A_SLIDER:
        return gr.Slider(option.lowest or 0, SLIDER_MAX, value, step=1, **about)
    return gr.Number(
        value, **about, minimum=option.lowest, precision=0 if option.kind == "whole" else None
    )


def widget_value(option: Option, value: Any) -> Any:
    """An option's value for its widget; text if the option may be left empty."""
    if not option.optional:
        return value
    return "" if value is None else f"{value:g}"


def read_value(option: Option, typed: Any) -> Any:
    """The option's value from the content of its widget; MergeError if a text is no number."""
    if option.kind not in ("whole", "number"):
        return typed
    text = str(typed if typed is not None else "").strip()
    if option.optional and text in ("", option.unset_word, "0" if option.unset_zero else ""):
        return None
    try:
        number = float(text or 0)
    except ValueError as error:
        empty = f"; leave it empty for {option.unset}" if option.optional else ""
        raise MergeError(f"{option.title}: “{text[:20]}” is no number{empty}.") from error
    return int(number) if option.kind == "whole" and number.is_integer() else number


def is_value(option: Option, value: Any) -> bool:
    """Whether the option can have this value; recipes of other versions may have other values."""
    if option.kind == "method":
        return value in METHODS
    try:
        option.check(value)
    except MergeError:
        return False
    return True


def _rank_number(rank: gr.Radio) -> gr.Number:
    number = gr.Number(16, label="Fixed rank", precision=0, minimum=1, maximum=512, visible=False)
    rank.change(lambda kind: gr.Number(visible=kind == FIXED), rank, number, **AT_ONCE)
    return number


def _file_precision() -> gr.Radio:
    return gr.Radio(
        list(get_args(Dtype)),
        value="fp16",
        label="Precision of the file",
        info="fp16 loads everywhere.",
    )

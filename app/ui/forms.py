"""The widgets a visitor fills in, and what their values mean: widgets → orders, cards → widgets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, get_args

import gradio as gr

from app.cards import BASE_TITLES, Card
from app.jobs import DTYPES
from app.orders import DrawOrder, Merged, MergeOrder, Pick, suggested_prompt
from app.settings import Settings
from app.ui import markup
from merging.errors import MergeError
from merging.methods import METHODS
from merging.request import MergeRequest, Targets, Teacher
from merging.solve import Fallback

Values = dict[Any, Any]  # component → value, as Gradio hands it to a handler
Updates = dict[Any, Any]  # component → what to change

OTHER = "other"
AT_ONCE: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
DEFAULTS = {field.name: field.default for field in MergeRequest.__dataclass_fields__.values()}
FALLBACKS = {"mean": "share of each (gentle)", "sum": "plain sum (strong)", "zero": "nothing"}
TARGETS = {
    "cross-attention": "text encoder + cross-attention (fast)",
    "attention": "text encoder + all attention",
    "all": "every layer",
}
# The library's default is the paper's; on the page the one that showed both concepts most often
# ("evaluate pairs" in the README), since a person wants the picture.
PAGE_TEACHER = "composed"
TEACHERS = {
    "single": "each LoRA on its own prompts (the paper)",
    "composed": "also prompts that name them all",
}


@dataclass(frozen=True)
class Slot:
    """The widgets of one LoRA; there are as many as a merge may have, most of them hidden."""

    group: gr.Column
    info: gr.HTML
    trigger: gr.Textbox
    strength: gr.Slider
    remove: gr.Button

    def show(self, found: Card, base: str, pick: Pick) -> Updates:
        """The widgets filled for a file."""
        return {
            self.group: gr.Column(visible=True),
            self.info: markup.card(found, base),
            self.trigger: pick.trigger,
            self.strength: pick.strength,
        }

    def hide(self) -> Updates:
        """The widgets of an empty place."""
        return {self.group: gr.Column(visible=False), self.trigger: "", self.strength: 1.0}


@dataclass(frozen=True)
class Options:
    """How to merge."""

    method: gr.Dropdown
    rank: gr.Radio
    rank_number: gr.Number
    targets: gr.Radio
    samples: gr.Slider
    fallback: gr.Radio
    teacher: gr.Radio
    seed: gr.Number
    prompts: gr.Textbox
    dtype: gr.Radio


@dataclass(frozen=True)
class Scene:
    """What to draw."""

    prompt: gr.Textbox
    seed: gr.Number
    steps: gr.Slider
    guidance: gr.Slider


@dataclass(frozen=True)
class BaseChoice:
    """Which model to draw with."""

    radio: gr.Radio
    other: gr.Textbox

    def name(self, values: Values) -> str:
        """The chosen base as the service knows it."""
        chosen = values[self.radio]
        return values[self.other].strip() if chosen == OTHER else chosen


@dataclass(frozen=True)
class Form:
    """All of it, with the visitor's state."""

    session: gr.State  # token of the visit, "" before the first file
    cards: gr.State  # list[Card]
    merged: gr.State  # Merged of the last merge, or None
    suggested: gr.State  # the prompt that the page wrote last
    base: BaseChoice
    slots: tuple[Slot, ...]
    options: Options
    scene: Scene

    @property
    def inputs(self) -> set[Any]:
        """Everything that a handler may want to know."""
        slots = [part for slot in self.slots for part in (slot.trigger, slot.strength)]
        parts = (self.base, self.options, self.scene)
        widgets = [widget for part in parts for widget in vars(part).values()]
        return {self.session, self.cards, self.merged, self.suggested, *slots, *widgets}

    def picks(self, values: Values) -> tuple[Pick, ...]:
        """The LoRAs as the visitor has set them."""
        cards: list[Card] = values[self.cards]
        if not cards and any(values[slot.trigger] for slot in self.slots):
            # The page shows cards that the server has forgotten: it was started anew meanwhile.
            raise MergeError("Your session has expired: reload the page and add your files again.")
        return tuple(
            Pick(found.path, found.name, float(values[slot.strength]), values[slot.trigger].strip())
            for found, slot in zip(cards, self.slots, strict=False)
        )

    @property
    def outputs(self) -> set[Any]:
        """What changes when files come and go."""
        slots = [part for slot in self.slots for part in vars(slot).values()]
        return {self.session, self.cards, self.suggested, self.scene.prompt, *slots}

    def merge_order(self, values: Values) -> MergeOrder:
        """What the visitor wants merged."""
        options = self.options
        fixed = values[options.rank] == "fixed"
        return MergeOrder(
            picks=self.picks(values),
            base=self.base.name(values),
            method=values[options.method],
            rank=str(int(values[options.rank_number] or 0)) if fixed else values[options.rank],
            targets=values[options.targets],
            samples=int(values[options.samples]),
            fallback=values[options.fallback],
            teacher=values[options.teacher],
            seed=int(values[options.seed] or 0),
            prompts=values[options.prompts],
            dtype=values[options.dtype],
        )

    def draw_order(self, values: Values, merged: Merged | None, prompt: str) -> DrawOrder:
        """What the visitor wants drawn: the last merge beside what went into it."""
        if merged is None:
            raise MergeError("There is nothing to compare yet: merge first, then draw.")
        return DrawOrder(
            picks=merged.order.picks,
            prompt=prompt,
            base=merged.order.base,
            merged=merged.kohya,
            method=merged.method,
            seed=int(values[self.scene.seed] or 0),
            steps=int(values[self.scene.steps]),
            guidance=float(values[self.scene.guidance]),
        )

    def prompt(self, values: Values, picks: tuple[Pick, ...]) -> str:
        """The prompt to draw: the visitor's own, or a fresh suggestion where there is none."""
        typed = values[self.scene.prompt]
        if typed.strip() and typed != values[self.suggested]:
            return typed
        return suggested_prompt([pick.trigger for pick in picks], self.base.name(values))

    def prompted(self, values: Values, prompt: str) -> Updates:
        """The prompt field, and a note of it if the page wrote it."""
        if prompt == values[self.scene.prompt]:
            return {}
        return {self.scene.prompt: prompt, self.suggested: prompt}

    def filled(self, cards: list[Card], picks: tuple[Pick, ...], values: Values) -> Updates:
        """Slots and suggested prompt for these files."""
        base = self.base.name(values)
        updates: Updates = {self.cards: cards}
        updates |= self.prompted(values, self.prompt(values, picks))
        for slot, found, pick in zip(self.slots, cards, picks, strict=False):
            updates |= slot.show(found, base, pick)
        for slot in self.slots[len(cards) :]:
            updates |= slot.hide()
        return updates


def base_choice(settings: Settings) -> BaseChoice:
    """Embedded, the real one, the operator's own, and at home any other."""
    choices = [
        ("Embedded mini model · 64×64, nothing to download", "mini"),
        ("Stable Diffusion 1.5 · 512×512, downloaded once, several GB", "sd15"),
    ]
    if settings.base not in BASE_TITLES:
        choices.append((settings.base, settings.base))
    if settings.free_base:
        choices.append(("Another folder or Hub id", OTHER))
    titles = {name: f"Base model: {title.split(' · ')[0]}" for title, name in choices}
    with gr.Accordion(titles[settings.base], open=False) as section:
        radio = gr.Radio(choices, value=settings.base, label="Base model", show_label=False)
        other = gr.Textbox(
            "",
            label="Folder in diffusers layout, or Hub id",
            placeholder="/models/my-sd15 or owner/name",
            visible=False,
        )
    radio.change(
        lambda name: (gr.Accordion(titles[name]), gr.Textbox(visible=name == OTHER)),
        radio,
        [section, other],
        **AT_ONCE,
    )
    return BaseChoice(radio, other)


def slot() -> Slot:
    """One LoRA's place on the page."""
    with gr.Column(visible=False, elem_classes="slot") as group:
        info = gr.HTML()
        with gr.Row(equal_height=True):
            trigger = gr.Textbox(
                "", label="Trigger words", placeholder="e.g. sks cat", max_lines=1, min_width=140
            )
            strength = gr.Slider(-2, 2, 1, step=0.05, label="Strength", min_width=180)
        remove = gr.Button("Remove", size="sm", elem_classes="remove")
    return Slot(group, info, trigger, strength, remove)


def options() -> Options:
    """Method and advanced options; every default is the library's own."""
    methods = [(method.title, name) for name, method in METHODS.items()]
    method = gr.Dropdown(methods, value=DEFAULTS["method"], label="Method", elem_id="method")
    about = gr.HTML(method_about(str(DEFAULTS["method"])), elem_id="about-method")
    method.change(method_about, method, about, **AT_ONCE)
    with gr.Accordion("Advanced", open=False, elem_id="advanced"):
        with gr.Row():
            rank = gr.Radio(
                [("exact", "exact"), ("automatic", "auto"), ("fixed", "fixed")],
                value=str(DEFAULTS["rank"]),
                label="Rank of the result",
                info="Exact loses nothing; automatic and fixed make a smaller file.",
            )
            number = gr.Number(
                16, label="Fixed rank", precision=0, minimum=1, maximum=512, visible=False
            )
        rank.change(lambda kind: gr.Number(visible=kind == "fixed"), rank, number, **AT_ONCE)
        targets = gr.Radio(
            [(TARGETS[name], name) for name in get_args(Targets)],
            value=str(DEFAULTS["targets"]),
            label="Layers solved from activations",
        )
        samples = gr.Slider(
            4, 200, DEFAULTS["samples"], step=1, label="Calibration prompts per LoRA"
        )
        fallback = gr.Radio(
            [(FALLBACKS[name], name) for name in get_args(Fallback)],
            value=str(DEFAULTS["fallback"]),
            label="Where calibration says nothing",
        )
        teacher = gr.Radio(
            [(TEACHERS[name], name) for name in get_args(Teacher)],
            value=PAGE_TEACHER,
            label="What the merge learns from",
        )
        prompts = gr.Textbox(
            "",
            label="Calibration prompts of your own",
            info="One a line, each with the trigger of its LoRA in it; empty makes them for you.",
            lines=3,
        )
        with gr.Row():
            seed = gr.Number(DEFAULTS["seed"], label="Seed of the merge", precision=0, minimum=0)
            dtype = gr.Radio(list(DTYPES), value="fp16", label="Precision of the file")
    return Options(method, rank, number, targets, samples, fallback, teacher, seed, prompts, dtype)


def method_about(name: str) -> str:
    """What the method does, and what its strengths mean."""
    return markup.method(METHODS[name])

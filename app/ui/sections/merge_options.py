"""How to merge: the method, how thorough, and every option that the method uses, behind a fold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, get_args

import gradio as gr

from app.ui.common import AT_ONCE, DEFAULTS, Updates, Values
from app.ui.html import fragments as markup
from merging.errors import MergeError
from merging.methods import METHODS, Method
from merging.options import Dtype, Fallback, Mode, Padding, Targets, Teacher, Tokens, Weighting

# The library's defaults are the paper's. The page's showed all concepts more often, on the tuning
# pairs (merging/evaluation/ablation.md): a person wants the picture.
PAGE_TEACHER, PAGE_MODE = "tsv", "delta+residual"
TITLES: Mapping[str, Mapping[str, str]] = {
    "targets": {
        "cross-attention": "text encoder + cross-attention (fast)",
        "attention": "text encoder + all attention",
        "all": "every layer",
    },
    "teacher": {
        "single": "each LoRA on its own prompts (the paper)",
        "tsv": "also prompts with two, as TSV of the two draws them",
        "sum": "also prompts with two, as their sum draws them",
        "composed": "also prompts with two, each LoRA in its own place",
    },
    "fallback": {"mean": "share of each (gentle)", "sum": "plain sum (strong)", "zero": "nothing"},
    "mode": {
        "delta": "its change (the paper's code)",
        "delta+residual": "its change, and what drifted on the way to the layer",
        "full": "whole weights",
    },
    "weighting": {
        "merged": "by the layer's output (the paper's code)",
        "delta": "by the change's output",
        "relative": "every change alike",
        "uniform": "every prompt alike",
    },
    "padding": {"keep": "all of them", "first-eos": "only the first"},
    "tokens": {"all": "all words", "concept": "the trigger words alone"},
}
CHOICES = {
    "targets": Targets,
    "teacher": Teacher,
    "fallback": Fallback,
    "mode": Mode,
    "weighting": Weighting,
    "padding": Padding,
    "tokens": Tokens,
}
PRESERVE, CROSS_RIDGE, ROUNDS = "Weight of prompts without any concept", "Cross ridge α₁", "Rounds"
EFFORTS: Mapping[str, Mapping[str, Any]] = {
    "Fast": {"targets": "cross-attention", "samples": 16},
    "Balanced": {"targets": DEFAULTS["targets"], "samples": DEFAULTS["samples"]},
    "Thorough": {"targets": "all", "samples": 100},
}


@dataclass(frozen=True)
class Options:
    """How to merge; all but method and effort lie behind the fold."""

    method: gr.Dropdown
    effort: gr.Radio
    targets: gr.Radio
    samples: gr.Slider
    rows: gr.Number
    teacher: gr.Radio
    composed_weight: gr.Number
    preserve: gr.Textbox
    fallback: gr.Radio
    ridge: gr.Number
    cross_ridge: gr.Textbox
    mode: gr.Radio
    weighting: gr.Radio
    padding: gr.Radio
    tokens: gr.Radio
    rounds: gr.Textbox
    rank: gr.Radio
    rank_number: gr.Number
    seed: gr.Number
    dtype: gr.Radio

    def order(self, values: Values) -> dict[str, Any]:
        """The fields of a MergeOrder that are set here."""
        fixed = values[self.rank] == "fixed"
        as_it_is = ("method", "targets", "teacher", "fallback", "mode", "weighting", "padding")
        rounds = _number(values[self.rounds], ROUNDS)
        return {
            **{name: values[getattr(self, name)] for name in (*as_it_is, "tokens", "dtype")},
            "rank": str(int(values[self.rank_number] or 0)) if fixed else values[self.rank],
            "samples": int(values[self.samples]),
            "rows": int(values[self.rows] or 0) or None,
            "composed_weight": float(values[self.composed_weight] or 0),
            "preserve": _number(values[self.preserve], PRESERVE),
            "ridge": float(values[self.ridge] or 0),
            "cross_ridge": _number(values[self.cross_ridge], CROSS_RIDGE),
            "rounds": None if rounds is None else int(rounds),
            "seed": int(values[self.seed] or 0),
        }

    @property
    def depending(self) -> set[Any]:
        """The widgets that come and go with the method."""
        parts = {getattr(self, each.name) for each in fields(self)}
        return parts - {self.method, self.rank, self.rank_number, self.dtype}

    def used_by(self, method: Method) -> set[Any]:
        """Those of them that make a difference to a method."""
        by_prompts = {
            *(self.effort, self.targets, self.samples, self.rows),
            *(self.teacher, self.composed_weight, self.preserve),
            *(self.fallback, self.ridge, self.mode, self.padding, self.tokens, self.seed),
        }
        if not method.calibrated:
            return {self.seed} if method is METHODS["dare"] else set()
        if method is METHODS["mix-of-show"]:
            return by_prompts
        paper = {self.weighting, self.rounds} if method.needs == "merged inputs" else set()
        return by_prompts | {self.cross_ridge} | paper

    def shown_for(self, name: str) -> Updates:
        """Every option of this method, and no other."""
        used = self.used_by(METHODS[name])
        return {part: type(part)(visible=part in used) for part in self.depending}

    def at_effort(self, name: str) -> Updates:
        """What an effort sets."""
        return {getattr(self, field): value for field, value in EFFORTS[name].items()}


def effort_of(recipe: Mapping[str, Any]) -> str | None:
    """The effort that sets what a recipe has, None if there is no such one."""
    fitting = (name for name, sets in EFFORTS.items() if sets.items() <= recipe.items())
    return next(fitting, None)


def options() -> Options:
    """The widgets of the second step."""
    methods = [(method.title, name) for name, method in METHODS.items()]
    method = gr.Dropdown(methods, value=DEFAULTS["method"], label="Method", elem_id="method")
    about = gr.HTML(method_about(str(DEFAULTS["method"])), elem_id="about-method")
    effort = gr.Radio(
        list(EFFORTS),
        value="Balanced",
        label="How thorough",
        info="Fast: 16 prompts a LoRA, cross-attention alone. Balanced: 50, all attention. "
        "Thorough: 100, every layer.",
    )
    with gr.Accordion("Advanced", open=False, elem_id="advanced"):
        found = Options(method, effort, *_learning(), *_solving(), *_file())
    method.change(method_about, method, about, **AT_ONCE)
    method.change(found.shown_for, method, found.depending, **AT_ONCE)
    set_by_effort = {getattr(found, field) for field in EFFORTS["Balanced"]}
    effort.input(found.at_effort, effort, set_by_effort, **AT_ONCE)
    by_hand = [found.targets.input, found.samples.release]
    gr.on(by_hand, lambda: None, None, effort, **AT_ONCE)
    return found


def method_about(name: str) -> str:
    """What the method does, and what its strengths mean."""
    return markup.method(METHODS[name])


def _learning() -> tuple[Any, ...]:
    """What the merge looks at."""
    targets = _radio("targets", "Layers solved from prompts", "All others take the fallback below.")
    samples = gr.Slider(
        4,
        200,
        DEFAULTS["samples"],
        step=1,
        label="Calibration prompts per LoRA",
        info="Made from the trigger, unless a card has lines of its own.",
    )
    rows = gr.Number(
        DEFAULTS["rows"],
        label="Positions of a picture",
        info="So many count at most; fewer are faster, 0 counts all.",
        precision=0,
        minimum=0,
    )
    teacher = _radio(
        "teacher", "What the merge learns from", "Prompts that it is to draw alike.", PAGE_TEACHER
    )
    composed_weight = gr.Number(
        DEFAULTS["composed_weight"],
        label="Weight of prompts that name several",
        info="One LoRA's own prompts weigh 1.",
        minimum=0,
    )
    preserve = _optional(
        PRESERVE,
        "They keep the rest as it is. Empty: 0.3 beside prompts with two, else 0.",
    )
    return targets, samples, rows, teacher, composed_weight, preserve


def _solving() -> tuple[Any, ...]:
    """The paper's letters, and what it leaves open."""
    fallback = _radio("fallback", "Where prompts say nothing", "What a layer does there.")
    with gr.Row():
        ridge = gr.Number(
            DEFAULTS["ridge"], label="Ridge α₂", info="How much of it comes in.", min_width=140
        )
        cross_ridge = _optional(CROSS_RIDGE, "Empty: as the line above asks.")
    mode = _radio(
        "mode",
        "What of a LoRA is imitated",
        "The second shows all concepts more often; the first is exact at its rank.",
        PAGE_MODE,
    )
    weighting = _radio("weighting", "How the LoRAs are balanced (λ)", "Which prompts weigh more.")
    padding = _radio("padding", "Tokens behind a prompt's end", "Which of them count.")
    tokens = _radio("tokens", "Words of a prompt", "Which of them count.")
    rounds = _optional(
        ROUNDS, "The paper repeats itself. Empty: one pass, which is where the rounds lead."
    )
    return fallback, ridge, cross_ridge, mode, weighting, padding, tokens, rounds


def _file() -> tuple[Any, ...]:
    """What comes out."""
    rank = gr.Radio(
        [("exact", "exact"), ("automatic", "auto"), ("fixed", "fixed"), ("uncut", "full")],
        value=str(DEFAULTS["rank"]),
        label="Rank of the result",
        info="Exact: the LoRAs' ranks added up. Automatic and fixed make a smaller file. Uncut: "
        "also what a merge has beyond exact where it imitates more than the change; large.",
    )
    number = gr.Number(16, label="Fixed rank", precision=0, minimum=1, maximum=512, visible=False)
    rank.change(lambda kind: gr.Number(visible=kind == "fixed"), rank, number, **AT_ONCE)
    seed = gr.Number(
        DEFAULTS["seed"],
        label="Seed of the merge",
        info="The same seed gives the same file.",
        precision=0,
        minimum=0,
    )
    dtype = gr.Radio(
        list(get_args(Dtype)),
        value="fp16",
        label="Precision of the file",
        info="fp16 loads everywhere.",
    )
    return rank, number, seed, dtype


def _optional(label: str, info: str) -> gr.Textbox:
    """A number that may be left out: Gradio's own field for numbers sends 0 when it is empty."""
    return gr.Textbox(
        "", label=label, info=info, placeholder="automatic", max_lines=1, min_width=140
    )


def _number(text: str | None, label: str) -> float | None:
    """What was typed, None for nothing; MergeError names the field."""
    typed = (text or "").strip()
    try:
        return float(typed) if typed else None
    except ValueError as error:
        raise MergeError(f"{label}: “{typed[:20]}” is no number; empty leaves it to us.") from error


def _radio(name: str, label: str, info: str, value: str = "") -> gr.Radio:
    """One of the library's choices, in words, at the library's default unless another is given."""
    choices = [(TITLES[name][choice], choice) for choice in get_args(CHOICES[name])]
    return gr.Radio(choices, value=value or str(DEFAULTS[name]), label=label, info=info)

"""How to merge: the method and what there is to set, every default the library's own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

import gradio as gr

from app.jobs import DTYPES
from app.ui import markup
from app.ui.basics import AT_ONCE, DEFAULTS
from merging.methods import METHODS
from merging.request import Targets, Teacher
from merging.solve import Fallback

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

"""/render: a picture with a base model and any number of LoRA files, for programs."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, get_args

import gradio as gr

from app.schemas.draw import DrawOrder, Picture
from app.service import Studio
from app.settings.model import Settings
from app.ui.api.arguments import base_arguments, file_arguments, picks
from app.ui.api.endpoint import REQUIRED, Answer, Argument, add_endpoint, answers, choice, endpoint
from merging.base_models import base_model
from merging.options import Compose, Sampler

ABOUT = """Draw one picture with a base model and any number of LoRA files, or none.

Gives a PNG with its settings inside. Lists have one entry per file, in their order, or are left
out."""
FILES = "LoRAs, such as the one that merge gave, and textual inversions, as .safetensors"


def render_arguments(settings: Settings) -> dict[str, Argument]:
    """All of them by name, in their order; to be called where widgets may be made."""
    return {
        "prompt": Argument("what to draw", REQUIRED, gr.Textbox("", label="prompt")),
        **file_arguments(FILES, "own_prompts"),
        **base_arguments(settings),
        "seed": Argument(
            "the same seed gives the same picture",
            DrawOrder.seed,
            gr.Number(DrawOrder.seed, label="seed", precision=0, minimum=0),
        ),
        "steps": Argument(
            "of the sampler",
            DrawOrder.steps,
            gr.Number(DrawOrder.steps, label="steps", precision=0, minimum=1, maximum=100),
        ),
        "guidance": Argument(
            "how closely the prompt is followed; what the base draws best with unless given",
            None,
            gr.Number(None, label="guidance", minimum=0, maximum=30),
        ),
        "negative": Argument(
            "what should not be in the picture", "", gr.Textbox("", label="negative")
        ),
        "sampler": Argument(
            "how noise becomes a picture",
            DrawOrder.sampler,
            choice("sampler", get_args(Sampler), DrawOrder.sampler),
        ),
        "compose": Argument(
            "sum (all LoRAs everywhere) or gated (each on its own words and region)",
            "sum",
            choice("compose", get_args(Compose), "sum"),
        ),
        "size": Argument(
            "WIDTHxHEIGHT in pixels, such as 512x768; the base model's own unless given",
            "",
            gr.Textbox("", label="size"),
        ),
    }


def add_render(studio: Studio) -> None:
    """The endpoint, behind widgets that nobody sees."""
    arguments = render_arguments(studio.settings)
    function = endpoint("render", ABOUT, arguments, partial(_render, studio))
    add_endpoint(function, arguments, "picture", "status")


def _render(studio: Studio, values: dict[str, Any]) -> Iterator[Answer]:
    """Steps with their progress, and at the end the picture."""
    session = studio.open_session()
    loras, words = picks(studio, session, values)
    same = ("prompt", "base", "precision", "seed", "steps", "negative", "sampler", "size")
    guidance = values["guidance"]
    order = DrawOrder(
        loras,
        words=words,
        guidance=base_model(values["base"]).guidance if guidance is None else guidance,
        columns=(values["compose"],),
        **{name: values[name] for name in same},
    )
    yield from answers(studio.draw(session, order), _answer)


def _answer(drawn: object) -> Answer:
    """The file of the one picture; nothing is scored here."""
    assert isinstance(drawn, Picture)
    return str(drawn.path), {"progress": 1.0, "doing": "done"}

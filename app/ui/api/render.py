"""/render: one picture with a base model and any number of LoRA files."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, get_args

import gradio as gr

from app.schemas.draw import COMPOSED, DrawOrder, Picture
from app.service import Studio
from app.settings.model import Settings
from app.ui.api.arguments import (
    base_arguments,
    file_arguments,
    read_regions,
    region_argument,
    selected_files,
)
from app.ui.api.checks import LARGEST_SEED, number, text
from app.ui.api.endpoint import (
    REQUIRED,
    Answer,
    Argument,
    add_endpoint,
    choice,
    endpoint,
    progress_then_answer,
)
from app.ui.common import current_client
from merging.base_models import base_model
from merging.options import MAX_CLIP_SKIP, Sampler

ABOUT = """Draw one picture with a base model and any number of LoRA files, or none.

Returns a PNG with its settings inside. Lists have one entry per file, in the order of the files, or
are left out."""
MAX_STEPS, MAX_GUIDANCE, LONGEST_SIZE = 100, 30, 20
FILES = "LoRAs, such as the answer of merge, and textual inversions, as .safetensors"


def render_arguments(settings: Settings) -> dict[str, Argument]:
    """All arguments by name, in order; call it inside ``gr.Blocks``."""
    return {
        "prompt": Argument("what to draw", REQUIRED, gr.Textbox("", label="prompt"), text()),
        **file_arguments(settings, FILES, "own_prompts"),
        **base_arguments(settings),
        "seed": Argument(
            "the same seed gives the same picture",
            DrawOrder.seed,
            gr.Number(DrawOrder.seed, label="seed", precision=0, minimum=0),
            number(0, LARGEST_SEED, whole=True),
        ),
        "steps": Argument(
            "number of sampling steps",
            DrawOrder.steps,
            gr.Number(DrawOrder.steps, label="steps", precision=0, minimum=1, maximum=MAX_STEPS),
            number(1, MAX_STEPS, whole=True),
        ),
        "guidance": Argument(
            "CFG scale: how closely the prompt is followed; that of the base model unless given",
            None,
            gr.Number(None, label="guidance", minimum=0, maximum=MAX_GUIDANCE),
            number(0, MAX_GUIDANCE, optional=True),
        ),
        "negative": Argument(
            "what should not be in the picture", "", gr.Textbox("", label="negative"), text()
        ),
        "sampler": choice("sampling method", "sampler", get_args(Sampler), DrawOrder.sampler),
        "compose": choice(
            "how several LoRAs act together: sum (all of them everywhere), or a way to compose "
            "without merging",
            "compose",
            ("sum", *COMPOSED),
            "sum",
        ),
        "regions": region_argument(),
        "size": Argument(
            "WIDTHxHEIGHT in pixels, such as 512x768; the size of the base model unless given",
            "",
            gr.Textbox("", label="size"),
            text(LONGEST_SIZE),
        ),
        "clip_skip": Argument(
            "2 leaves out the text encoder's last layer, as A1111 counts",
            1,
            gr.Number(1, label="clip_skip", precision=0, minimum=1, maximum=MAX_CLIP_SKIP),
            number(1, MAX_CLIP_SKIP, whole=True),
        ),
    }


def add_render(studio: Studio) -> None:
    """Add the endpoint with its hidden widgets."""
    arguments = render_arguments(studio.settings)
    function = endpoint("render", ABOUT, arguments, partial(_render, studio))
    add_endpoint(function, arguments, "picture", "status")


def _render(studio: Studio, values: dict[str, Any]) -> Iterator[Answer]:
    """Progress, and at the end the picture."""
    session = studio.open_session(current_client())
    loras, embeddings = selected_files(studio, session, values)
    plain = ("prompt", "base", "precision", "seed", "steps", "negative", "sampler", "size")
    names = (*plain, "clip_skip")
    guidance = values["guidance"]
    order = DrawOrder(
        loras,
        words=embeddings,
        guidance=base_model(values["base"]).guidance if guidance is None else guidance,
        columns=(values["compose"],),
        regions=read_regions(values["regions"]),
        **{name: values[name] for name in names},
    )
    yield from progress_then_answer(studio.draw(session, order), _answer)


def _answer(picture: object) -> Answer:
    """The path of the picture; scores do not occur, since there are no references."""
    assert isinstance(picture, Picture)
    return str(picture.path), {"progress": 1.0, "doing": "done"}

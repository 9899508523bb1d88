"""/tune: strengths for a merge, by search."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import gradio as gr

from app.schemas.tuning import BUDGET, JUDGES, TuneOrder, TuneResult
from app.service import Studio
from app.settings.model import Settings
from app.ui.api.checks import number
from app.ui.api.endpoint import (
    Answer,
    Argument,
    add_endpoint,
    choice,
    endpoint,
    progress_then_answer,
)
from app.ui.api.merge import merge_order, request_arguments
from app.ui.common import current_client

ABOUT = """Search for the strengths of a merge by CMA-ES, beside as many random ones.

Returns a picture of the search, and the strengths to use with a sentence: whether they are better
than those given, and than random ones, on prompts that were held out. A call takes minutes."""


def tune_arguments(settings: Settings) -> dict[str, Argument]:
    """All arguments by name, in order; call it inside ``gr.Blocks``."""
    most, usual = settings.max_batch, min(BUDGET, settings.max_batch)
    return {
        **request_arguments(settings),
        "judge": choice(
            "objective (of the layers, without pictures) or advantage (whether the LoRAs find "
            "their concepts in pictures)",
            "judge",
            tuple(JUDGES),
            TuneOrder.judge,
        ),
        "budget": Argument(
            "merges by the search, and as many with random strengths beside it",
            usual,
            gr.Number(usual, label="budget", precision=0, minimum=1, maximum=most),
            number(1, most, whole=True),
        ),
    }


def add_tune(studio: Studio) -> None:
    """Add the endpoint with its hidden widgets."""
    arguments = tune_arguments(studio.settings)
    function = endpoint("tune", ABOUT, arguments, partial(_tune, studio))
    add_endpoint(function, arguments, "picture", "strengths")


def _tune(studio: Studio, values: dict[str, Any]) -> Iterator[Answer]:
    """Progress, and at the end the picture and the strengths."""
    session = studio.open_session(current_client())
    merge = merge_order(studio, session, values)
    order = TuneOrder(merge, values["judge"], int(values["budget"]))
    yield from progress_then_answer(studio.tune(session, order), _answer)


def _answer(result: TuneResult) -> Answer:
    picks = [result.taken_by(pick) for pick in result.order.merge.picks]
    return str(result.plot), {
        "verdict": result.verdict,
        "strengths": [pick.strength for pick in picks],
        "text_encoder": [pick.text_encoder for pick in picks],
        "unet": [pick.unet for pick in picks],
        "trials": result.trials,
        "best": {
            one.kind: {
                "strengths": list(one.strengths),
                "score": one.score,
                "held_out": one.held_out,
            }
            for one in result.best
        },
    }

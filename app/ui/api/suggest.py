"""/suggest: LoRAs of the library that fit a prompt."""

from __future__ import annotations

from typing import TypedDict

import gradio as gr

from app.service import Studio
from app.ui.api.checks import text
from app.ui.api.endpoint import check_inputs, client_errors
from merging.errors import MergeError


class SuggestedLora(TypedDict):
    """A LoRA that fits."""

    name: str
    trigger: str
    base: str
    sha256: str
    score: float  # 0 to 1
    named: bool  # its trigger is in the prompt


def add_suggest(studio: Studio) -> None:
    """Add the endpoint with its hidden widgets."""

    def suggest(prompt: str) -> list[SuggestedLora]:
        """Which LoRAs of the library on this machine fit a prompt, the best first, at most twelve.

        Those whose trigger words are in the prompt come first, with score 1. A public app keeps no
        library, and says so.

        Args:
            prompt: what is to be drawn
        """
        with client_errors():
            if not studio.settings.home:
                raise MergeError("This app keeps no library between visits.")
            library = studio.library("")
            return [
                {
                    "name": found.entry.name,
                    "trigger": found.entry.trigger,
                    "base": found.entry.base,
                    "sha256": found.entry.sha256,
                    "score": round(found.score, 4),
                    "named": found.named,
                }
                for found in library.suggest(prompt, studio.clip_reader)
            ]

    prompt, answer = gr.Textbox("", label="prompt"), gr.JSON(label="answer")
    gr.Button("suggest").click(
        suggest,
        prompt,
        answer,
        api_name="suggest",
        concurrency_limit=None,
        show_progress="hidden",
    )
    check_inputs("suggest", {"prompt": text()})

"""/inspect and /methods: the public endpoints that only read."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import gradio as gr

from app.service import Studio
from app.ui.api.checks import upload
from app.ui.api.endpoint import check_inputs
from merging.analysis.summary import Summary
from merging.methods import METHODS, MethodData


def add_inspect(studio: Studio, errors: Callable[[], AbstractContextManager[None]]) -> None:
    """Add both endpoints; ``errors()`` turns exceptions into errors for the client."""

    def inspect(file: str) -> Summary:
        """What a LoRA file is: family, base model, ranks, layers, trigger words, warnings.

        The answer is that of `python -m merging inspect FILE --json`, for one file.

        Args:
            file: one .safetensors file
        """
        with errors():
            return studio.inspect(Path(file) if file else None)

    def methods() -> dict[str, MethodData]:
        """All merge methods by name: what they do, what they need, and their papers."""
        return {name: method.as_dict() for name, method in METHODS.items()}

    file = gr.File(file_types=[".safetensors"], label="file")
    for function, inputs, checks in ((inspect, [file], {"file": _upload}), (methods, [], {})):
        name = function.__name__
        answer = gr.JSON(label="answer")
        gr.Button(name).click(
            function, inputs, answer, api_name=name, concurrency_limit=None, show_progress="hidden"
        )
        check_inputs(name, checks)


def _upload(name: str, value: object) -> None:
    if value is not None:  # none at all has a sentence of its own
        upload(name, value)

"""The public endpoints that only tell something: /inspect and /methods."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import gradio as gr

from app.service import Studio
from merging.analysis.summary import Summary
from merging.methods import METHODS, MethodData


def add_reading(studio: Studio, shown: Callable[[], AbstractContextManager[None]]) -> None:
    """Add both; ``shown()`` makes errors into sentences for the caller."""

    def inspect(file: str) -> Summary:
        """What a LoRA file is: family, base model, ranks, layers, trigger words, warnings.

        The answer is that of `python -m merging inspect FILE --json`, for one file.

        Args:
            file: one .safetensors file
        """
        with shown():
            return studio.inspect(Path(file) if file else None)

    def methods() -> dict[str, MethodData]:
        """Every merging method by name: what it does, what it needs, and where it is from."""
        return {name: method.as_dict() for name, method in METHODS.items()}

    for function, inputs in (
        (inspect, [gr.File(file_types=[".safetensors"], label="file")]),
        (methods, []),
    ):
        name = function.__name__
        answer = gr.JSON(label="answer")
        gr.Button(name).click(
            function, inputs, answer, api_name=name, concurrency_limit=None, show_progress="hidden"
        )

"""Gradio's Blocks, with every input checked before Gradio converts it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import gradio as gr

from app.ui.common import INTERNAL_ERROR, error_sentence
from merging.errors import MergeError

log = logging.getLogger(__name__)
ENDPOINT_MISFIT = (
    "An argument has a value of the wrong kind: “Use via API” at the foot of the page lists what "
    "each of them takes."
)
PAGE_MISFIT = "A field has a value that it cannot have: reload the page, and fill it in again."
Checks = Callable[[list[Any]], None]  # gets the inputs in order; raises MergeError


class CheckedBlocks(gr.Blocks):
    """Blocks that refuse wrong inputs with a sentence, where Gradio has a traceback."""

    def __init__(self, *values: Any, **named: Any) -> None:
        super().__init__(*values, **named)
        self.checks: dict[str, Checks] = {}  # by the name of an endpoint

    async def preprocess_data(
        self, block_fn: Any, inputs: list[Any], *values: Any, **named: Any
    ) -> list[Any]:
        """The inputs of an event as its function gets them; gr.Error for wrong ones."""
        check = self.checks.get(str(block_fn.api_name))
        try:
            if check:
                check(inputs)
            return await super().preprocess_data(block_fn, inputs, *values, **named)
        except gr.Error as error:
            error.print_exception = False
            raise
        except MergeError as error:
            raise gr.Error(error_sentence(error), print_exception=False) from None
        except Exception as error:  # noqa: BLE001 -- whatever a client's values lead to
            log.info("inputs refused: %s", type(error).__name__)
            # Gradio also copies files, and a disk may be full; of some errors it makes its own.
            cause = error.__cause__ if isinstance(error.__cause__, Exception) else error
            text = error_sentence(cause)
            if text == INTERNAL_ERROR:
                text = ENDPOINT_MISFIT if check else PAGE_MISFIT
            raise gr.Error(text, print_exception=False) from None

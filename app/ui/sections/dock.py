"""The dock at the foot of the window: what is going on, Stop, and the one primary button."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from app.ui.common import Updates
from app.ui.html import fragments as markup
from app.ui.html.durations import rounded
from app.ui.sections.export import Files
from app.ui.sections.pictures import PicturesSection

MERGE, DRAW = "Merge and draw", "Draw again"
WORKING = "Working…"
FIRST, ANOTHER = "Add two LoRAs", "Add another LoRA"


@dataclass(frozen=True)
class Dock:
    """Always in view once there is a LoRA."""

    status: gr.HTML
    stop: gr.Button
    press: gr.Button
    starters: tuple[gr.Button, ...]  # other buttons that start a job; off while one runs

    def busy(self, text: str) -> Updates:
        """A job starts."""
        return {
            self.status: text,
            self.stop: gr.Button("Stop", visible=True, interactive=True),
            **{button: gr.Button(interactive=False) for button in self.starters},
            self.press: gr.Button(WORKING, interactive=False),
        }

    def stopping(self) -> Updates:
        """Stop was pressed; the handler of the job shows when it has ended."""
        return {self.stop: gr.Button("Stopping…", interactive=False)}

    def idle(self, text: str) -> Updates:
        """The job and its thread have ended: the next one may start."""
        return {
            self.status: text,
            self.stop: gr.Button(visible=False),
            **{button: gr.Button(interactive=True) for button in (self.press, *self.starters)},
        }

    def ready(self, label: str, seconds: float | None = None) -> Updates:
        """What the button will do, and how long it takes, where that is known."""
        time = f" · about {rounded(seconds)}" if seconds else ""
        return {self.press: gr.Button(f"{label}{time}", interactive=True)}

    def missing(self, label: str, sentence: str) -> Updates:
        """What is missing before the button can do anything."""
        return {
            self.press: gr.Button(label, interactive=False),
            self.status: markup.hint(sentence),
        }

    @property
    def readiness(self) -> set[Any]:
        """What says whether a job can start."""
        return {self.status, self.press}

    @property
    def outputs(self) -> set[Any]:
        return {self.status, self.stop, self.press, *self.starters}


@dataclass(frozen=True)
class Results:
    """Pictures and files."""

    views: PicturesSection
    files: Files

    @property
    def outputs(self) -> set[Any]:
        return self.views.outputs | self.files.outputs


def dock_section(starters: tuple[gr.Button, ...]) -> Dock:
    """The dock, with nothing to do yet."""
    with gr.Row(elem_id="dock"):
        status = gr.HTML(elem_id="status")
        stop = gr.Button("Stop", visible=False, variant="stop", scale=0, min_width=96)
        press = gr.Button(
            FIRST, variant="primary", interactive=False, scale=0, min_width=190, elem_id="press"
        )
    return Dock(status, stop, press, starters)

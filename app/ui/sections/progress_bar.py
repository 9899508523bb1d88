"""What a job changes on the page: the progress bar with Stop, pictures and files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from app.ui.common import Updates
from app.ui.sections.export import Files
from app.ui.sections.pictures import PicturesSection


@dataclass(frozen=True)
class ProgressBar:
    """The bar at the foot of the window, always in view."""

    bar: gr.Row
    status: gr.HTML
    stop: gr.Button
    starters: tuple[gr.Button, ...]  # buttons that start a job; off while one runs

    def busy(self, text: str) -> Updates:
        """A job starts."""
        return {
            self.bar: gr.Row(visible=True),
            self.status: text,
            self.stop: gr.Button("Stop", visible=True, interactive=True),
            **{button: gr.Button(interactive=False) for button in self.starters},
        }

    def stopping(self) -> Updates:
        """Stop was pressed; the handler of the job shows when it has ended."""
        return {self.stop: gr.Button("Stopping…", interactive=False)}

    def idle(self, text: str) -> Updates:
        """The job and its thread have ended: the next one may start."""
        return {
            self.bar: gr.Row(visible=True),
            self.status: text,
            self.stop: gr.Button(visible=False),
            **{button: gr.Button(interactive=True) for button in self.starters},
        }

    @property
    def outputs(self) -> set[Any]:
        return {self.bar, self.status, self.stop, *self.starters}


@dataclass(frozen=True)
class Results:
    """Pictures and files."""

    views: PicturesSection
    files: Files

    @property
    def outputs(self) -> set[Any]:
        return self.views.outputs | self.files.outputs

"""The widgets that show what came out: the dock with progress and Stop, pictures, downloads."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from app.orders import Merged
from app.ui import markup
from app.ui.basics import Updates
from app.ui.views import Views


@dataclass(frozen=True)
class Dock:
    """The bar at the foot of the window: what is going on, wherever the visitor has scrolled."""

    bar: gr.Row
    status: gr.HTML
    stop: gr.Button
    starters: tuple[gr.Button, ...]  # buttons that start a job: off while one runs

    def busy(self, text: str) -> Updates:
        """A job begins."""
        return {
            self.bar: gr.Row(visible=True),
            self.status: text,
            self.stop: gr.Button("Stop", visible=True, interactive=True),
            **{button: gr.Button(interactive=False) for button in self.starters},
        }

    def stopping(self) -> Updates:
        """Stop was pressed; the job's own handler tells when it has ended."""
        return {self.stop: gr.Button("Stopping…", interactive=False)}

    def idle(self, text: str) -> Updates:
        """A job has ended, and its worker with it: the next may start."""
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

    views: Views
    empty: gr.HTML  # in the files' place
    ready: gr.Column
    summary: gr.HTML
    kohya: gr.DownloadButton
    diffusers: gr.DownloadButton
    recipe: gr.Code

    def files(self, merged: Merged) -> Updates:
        """The adapter, ready to be taken home."""
        return {
            self.empty: gr.HTML(visible=False),
            self.ready: gr.Column(visible=True),
            self.summary: markup.summary(merged),
            self.kohya: _download(merged.kohya),
            self.diffusers: _download(merged.diffusers),
            self.recipe: json.dumps(merged.recipe, indent=2, ensure_ascii=False),
        }

    @property
    def outputs(self) -> set[Any]:
        own = {widget for name, widget in vars(self).items() if name != "views"}
        return own | self.views.outputs


def _download(path: Path) -> gr.DownloadButton:
    return gr.DownloadButton(value=str(path))

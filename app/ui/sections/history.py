"""The history section: a page of entries, the newest first, and a comparison of two."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from app.compare_merges import differences
from app.settings.model import Settings
from app.storage.history import OpenedEntry
from app.storage.history_entry import HistoryEntry
from app.storage.history_matrix import KeptMatrix
from app.ui.common import CHOICES, Updates, served
from app.ui.html.fragments import megabytes, panel_title, paragraph
from app.ui.html.matrix import kept_matrices_html
from app.ui.html.rendering import render_template
from app.ui.sections.pictures import GALLERY
from merging.base_models import base_model

PLACES = 6  # entries on the page at a time
MAX_PROMPT_LENGTH = 90  # characters
NOTHING = "Nothing yet: your merges and pictures appear here."


@dataclass(frozen=True)
class EntryPlace:
    """The widgets of one entry on the page."""

    group: gr.Column
    text: gr.HTML
    ticked: gr.Checkbox
    pinned: gr.Checkbox
    open: gr.Button
    run_again: gr.Button
    delete: gr.Button

    def show(self, entry: HistoryEntry) -> Updates:
        """The widgets filled in, and not ticked."""
        return {
            self.group: gr.Column(visible=True),
            self.text: entry_html(entry),
            self.ticked: False,
            self.pinned: entry.pinned,
            self.delete: gr.Button(interactive=not entry.pinned),
        }

    @property
    def outputs(self) -> set[Any]:
        """Everything that changes with the entry."""
        return {self.group, self.text, self.ticked, self.pinned, self.delete}

    def hide(self) -> Updates:
        """The widgets hidden."""
        return {self.group: gr.Column(visible=False), self.ticked: False}


@dataclass(frozen=True)
class HistorySection:
    """The widgets of the whole section."""

    message: gr.HTML
    entry_ids: gr.State  # ids of the entries on the page
    start: gr.State  # number of newer entries
    size: gr.HTML
    matrices: gr.HTML
    places: tuple[EntryPlace, ...]
    newer: gr.Button
    older: gr.Button
    compare: gr.Button
    draw_both: gr.Button
    differences: gr.HTML
    pairs: gr.Gallery

    def show(self, entries: Sequence[HistoryEntry], start: int, count: int, size: int) -> Updates:
        """Show these entries, of ``count`` with files of ``size`` bytes in all."""
        updates: Updates = {
            self.entry_ids: [entry.id for entry in entries],
            self.start: start,
            self.size: _size(count, size),
            self.newer: gr.Button(interactive=start > 0),
            self.older: gr.Button(interactive=start + len(entries) < count),
        }
        for place, entry in zip(self.places, entries, strict=False):
            updates |= place.show(entry)
        for place in self.places[len(entries) :]:
            updates |= place.hide()
        return updates

    def show_matrices(self, kept: Sequence[KeptMatrix]) -> Updates:
        """Show these matrices, folded."""
        sheets = [served(self.matrices, matrix.sheet) for matrix in kept]
        html = kept_matrices_html([*zip(kept, sheets, strict=True)])
        return {self.matrices: gr.HTML(html, visible=bool(html))}

    @property
    def outputs(self) -> set[Any]:
        """Everything that changes with the list."""
        widgets = {self.message, self.entry_ids, self.start, self.size, self.matrices}
        widgets |= {self.newer, self.older}
        return widgets.union(*(place.outputs for place in self.places))


def history_section(settings: Settings) -> HistorySection:
    """The panel, closed."""
    lifetime = (
        "It stays on this machine until you delete it."
        if settings.home
        else "Only you see it, and it is deleted after your visit."
    )
    limit = f"Above {settings.max_history_mb} MB the oldest are deleted, but none ticked “Keep”."
    with gr.Column(elem_id="history", elem_classes="sheet"):
        gr.HTML(panel_title("History", f"All merges with their pictures. {lifetime} {limit}"))
        message = gr.HTML(visible=False, elem_id="history-said")
        size = gr.HTML(_size(0, 0))
        matrices = gr.HTML(visible=False, elem_id="matrices", js_on_load=CHOICES)
        places = tuple(_place() for _ in range(PLACES))
        with gr.Row():
            newer = gr.Button("Newer", size="sm", min_width=80, interactive=False)
            older = gr.Button("Older", size="sm", min_width=80, interactive=False)
            compare = gr.Button("Compare the two ticked", size="sm", min_width=170)
            draw_both = gr.Button("Draw both anew", size="sm", min_width=130)
        differences = gr.HTML(visible=False, elem_id="differences")
        pairs = gr.Gallery(label="Compared", columns=2, visible=False, elem_id="pairs", **GALLERY)
    states = gr.State([]), gr.State(0)
    both = compare, draw_both
    lists = size, matrices, places
    return HistorySection(message, *states, *lists, newer, older, *both, differences, pairs)


def _place() -> EntryPlace:
    with gr.Column(visible=False, elem_classes="past") as group:
        text = gr.HTML()
        with gr.Row(elem_classes="tools"):
            ticked, pinned = (
                gr.Checkbox(False, label=label, container=False, min_width=0)
                for label in ("Compare", "Keep")
            )
            labels = ("Open again", "Run again", "Delete")
            buttons = [gr.Button(label, size="sm", scale=0, min_width=0) for label in labels]
    return EntryPlace(group, text, ticked, pinned, *buttons)


def entry_html(entry: HistoryEntry) -> str:
    """The text of an entry, with its thumbnails."""
    strengths = ", ".join(f"{name} at {strength:g}" for name, strength in entry.loras)
    base = base_model(entry.base).title
    return render_template(
        "history_entry",
        entry=entry,
        time=time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.made)),
        facts=(f"no. {entry.id}", strengths, f"rank {entry.ranks}", base),
        prompt=_short(entry.prompt),
    )


def differences_html(one: OpenedEntry, other: OpenedEntry) -> str:
    """The differences of two merges, A and B, as a table."""
    return render_template(
        "differences",
        differences=differences(one.merged.recipe, other.merged.recipe),
        titles=(f"A: {one.merged.method}", f"B: {other.merged.method}"),
        same=one.merged.kohya.read_bytes() == other.merged.kohya.read_bytes(),
    )


def _size(count: int, size: int) -> str:
    """The number of entries, and the size of their files."""
    if not count:
        return paragraph("nothing", NOTHING)
    entries = "1 entry" if count == 1 else f"{count} entries"
    return paragraph("facts", f"{entries}, {megabytes(size / 2**20)} on disk.")


def _short(prompt: str) -> str:
    line = " / ".join(prompt.split("\n"))
    return line if len(line) <= MAX_PROMPT_LENGTH else f"{line[:MAX_PROMPT_LENGTH].rstrip()}…"

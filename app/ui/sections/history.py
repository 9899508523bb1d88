"""The history's place on the page: a few entries at a time, the newest first, and two compared."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from app.compare_merges import differences
from app.settings.model import Settings
from app.storage.history import OpenedEntry
from app.storage.history_entry import Entry
from app.ui.common import Updates
from app.ui.html.fragments import megabytes, paragraph
from app.ui.html.rendering import render_template
from app.ui.sections.pictures import SHEET
from merging.base_models import base_model

PLACES = 6  # entries on the page at a time
LONGEST_PROMPT = 90  # characters of it that a list shows
NOTHING = "Nothing yet: what you merge and draw appears here."


@dataclass(frozen=True)
class Place:
    """One entry's place."""

    group: gr.Column
    told: gr.HTML
    ticked: gr.Checkbox
    pinned: gr.Checkbox
    open: gr.Button
    again: gr.Button
    forget: gr.Button

    def show(self, entry: Entry) -> Updates:
        """The place filled, and not ticked."""
        return {
            self.group: gr.Column(visible=True),
            self.told: entry_text(entry),
            self.ticked: False,
            self.pinned: entry.pinned,
            self.forget: gr.Button(interactive=not entry.pinned),
        }

    @property
    def changing(self) -> set[Any]:
        """What another entry changes."""
        return {self.group, self.told, self.ticked, self.pinned, self.forget}

    def hide(self) -> Updates:
        """An empty place."""
        return {self.group: gr.Column(visible=False), self.ticked: False}


@dataclass(frozen=True)
class HistorySection:
    """The widgets of the whole section."""

    section: gr.Accordion
    said: gr.HTML
    listed: gr.State  # ids of the entries on the page
    start: gr.State  # how many newer ones there are
    size: gr.HTML
    places: tuple[Place, ...]
    newer: gr.Button
    older: gr.Button
    compare: gr.Button
    draw_both: gr.Button
    differences: gr.HTML
    pairs: gr.Gallery

    def shown(self, entries: Sequence[Entry], start: int, count: int, size: int) -> Updates:
        """These entries, of ``count``, whose files have ``size`` bytes together."""
        updates: Updates = {
            self.listed: [entry.id for entry in entries],
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

    @property
    def outputs(self) -> set[Any]:
        """What changes with the list."""
        own = {self.said, self.listed, self.start, self.size, self.newer, self.older}
        return own.union(*(place.changing for place in self.places))


def history_section(settings: Settings) -> HistorySection:
    """Folded, below the four steps."""
    stays = (
        "It stays on this machine until you delete it."
        if settings.home
        else "It is yours alone, and ends with your visit."
    )
    limit = f"Beyond {settings.max_history_mb} MB the oldest go first, none that is ticked “Keep”."
    said = gr.HTML(visible=False, elem_id="history-said")
    with gr.Accordion("History: merges and pictures of before", open=False, elem_id="history") as (
        section
    ):
        gr.HTML(paragraph("about", f"All that was merged and drawn. {stays} {limit}"))
        size = gr.HTML(_size(0, 0))
        places = tuple(_place() for _ in range(PLACES))
        with gr.Row():
            newer = gr.Button("Newer", size="sm", min_width=80, interactive=False)
            older = gr.Button("Older", size="sm", min_width=80, interactive=False)
            compare = gr.Button("Compare the two ticked", size="sm", min_width=170)
            draw_both = gr.Button("Draw both anew", size="sm", min_width=130)
        differences = gr.HTML(visible=False, elem_id="differences")
        pairs = gr.Gallery(label="Compared", columns=2, visible=False, elem_id="pairs", **SHEET)
    states = gr.State([]), gr.State(0)
    both = compare, draw_both
    return HistorySection(
        section, said, *states, size, places, newer, older, *both, differences, pairs
    )


def _place() -> Place:
    with gr.Column(visible=False, elem_classes="slot past") as group:
        told = gr.HTML()
        with gr.Row(elem_classes="tools"):
            ticked, pinned = (
                gr.Checkbox(False, label=word, container=False, min_width=0)
                for word in ("Compare", "Keep")
            )
            words = ("Open again", "Run again", "Delete")
            buttons = [gr.Button(word, size="sm", scale=0, min_width=0) for word in words]
    return Place(group, told, ticked, pinned, *buttons)


def entry_text(entry: Entry) -> str:
    """An entry in words, with its small pictures."""
    strengths = ", ".join(f"{name} at {strength:g}" for name, strength in entry.loras)
    base = base_model(entry.base).title
    return render_template(
        "history_entry",
        entry=entry,
        time=time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.made)),
        facts=(f"no. {entry.id}", strengths, f"rank {entry.ranks}", base),
        prompt=_short(entry.prompt),
    )


def differing(one: OpenedEntry, other: OpenedEntry) -> str:
    """Where two merges, A and B, differ: a table, or that they do not."""
    return render_template(
        "differences",
        differences=differences(one.merged.recipe, other.merged.recipe),
        titles=(f"A: {one.merged.method}", f"B: {other.merged.method}"),
        same=one.merged.kohya.read_bytes() == other.merged.kohya.read_bytes(),
    )


def _size(count: int, size: int) -> str:
    """How many entries there are, and the bytes of their files."""
    if not count:
        return paragraph("nothing", NOTHING)
    entries = "1 entry" if count == 1 else f"{count} entries"
    return paragraph("facts", f"{entries}, {megabytes(size / 2**20)} on the disk.")


def _short(prompt: str) -> str:
    line = " / ".join(prompt.split("\n"))
    return line if len(line) <= LONGEST_PROMPT else f"{line[:LONGEST_PROMPT].rstrip()}…"

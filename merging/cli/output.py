"""Texts and data about a written file, shared by the commands."""

from __future__ import annotations

from collections.abc import Sequence

from merging.adapter import Adapter
from merging.engine import MergeResult
from merging.export.save import Saved, SavedData
from merging.report import ReportData


class SavedMerge(SavedData):
    """A saved merge as plain data for JSON."""

    report: ReportData


def describe_merge(saved: Saved, result: MergeResult) -> tuple[SavedMerge, str]:
    """A saved merge as data and as text."""
    report = result.report
    text = f"{saved.path}: {ranks_text(result.adapter)}, {report.method}, {report.seconds:.1f} s"
    answer: SavedMerge = {**saved.as_dict(), "report": report.as_dict()}
    return answer, with_notes(text, saved, report.notes)


def with_notes(text: str, saved: Saved, notes: Sequence[str]) -> str:
    """A line about a saved file, the outcome of its checks, and a line for every note."""
    lines = (f"note: {note}" for note in (*notes, *saved.notes))
    return "\n".join([text, saved.written.sentence, *lines])


def ranks_text(adapter: Adapter) -> str:
    """An adapter's number of layers and its range of ranks."""
    ranks = [layer.rank for layer in adapter.layers.values()]
    low, high = min(ranks), max(ranks)
    return f"{len(ranks)} layers, " + (f"rank {low}" if low == high else f"ranks {low}–{high}")

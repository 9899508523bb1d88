"""Visits without a browser: files added and merged by the service itself."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from app.jobs.queue import Step
from app.schemas.card import Card
from app.schemas.merge import FinishedMerge, MergeOrder
from app.service import Studio

QUICK = {"samples": 1, "targets": "cross-attention"}


def added(studio: Studio, files: Sequence[Path]) -> tuple[str, list[Card]]:
    """A visit with these files in it."""
    session, cards = studio.open_session(), list[Card]()
    for file in files:
        cards.append(studio.add(session, file, cards))
    return session, cards


def finished(studio: Studio, session: str, order: MergeOrder) -> FinishedMerge:
    """The result of a merge, after all its steps."""
    items = list(studio.merge(session, order))
    (merged,) = (item for item in items if isinstance(item, FinishedMerge))
    steps = [item for item in items if isinstance(item, Step)]
    shares = [step.share for step in steps]
    assert shares == sorted(shares), "progress never goes back"
    told = {step.solved.layer for step in steps if step.solved}
    assert told == {row["layer"] for row in merged.report["layers"]}  # type: ignore[attr-defined]
    return merged

"""“Merge and draw”: the pictures that need no merge come first, all of it in one job."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from app.jobs.queue import Step
from app.schemas.draw import ComparisonOrder, DrawOrder, Picture
from app.schemas.merge import FinishedMerge, MergeOrder, SelectedFile
from app.service import Studio
from merging.errors import MergeError
from tests.app.visits import QUICK, added

PROMPT = "a photo of a sks cat and a vxz pizza"


def comparison(studio: Studio, pair: tuple[Path, Path], **scene: object) -> tuple[str, list]:
    """A visit, and all that its comparison yields."""
    session, cards = added(studio, pair)
    picks = tuple(map(SelectedFile.of, cards))
    order = ComparisonOrder(
        MergeOrder(picks, **QUICK),  # type: ignore[arg-type]
        replace(DrawOrder(picks, PROMPT, steps=2, size="64x64"), **scene),  # type: ignore[arg-type]
    )
    return session, [order, *studio.merge_and_draw(session, order)]


@pytest.mark.slow
def test_the_argument_comes_before_the_merge(studio: Studio, pair: tuple[Path, Path]) -> None:
    session, (order, *items) = comparison(studio, pair, count=2)
    results = [item for item in items if not isinstance(item, Step)]
    kinds = [(item.column, item.seed) if isinstance(item, Picture) else "merge" for item in results]
    plain = ("base", "each", "each", "sum")
    assert kinds == [
        *((column, 0) for column in plain),
        "merge",
        ("merged", 0),
        ("merged", 1),
        *((column, 1) for column in plain[::-1]),
    ]
    (merged,) = (item for item in results if isinstance(item, FinishedMerge))
    pictures = order.scene.arranged([item for item in results if isinstance(item, Picture)])
    assert [(it.column, it.seed) for it in pictures[:2]] == [("base", 0), ("base", 1)]
    shown = order.drawn(merged).of_the_merge
    assert [pictures[place].column for place in shown] == ["merged", "merged"]

    steps = [item for item in items if isinstance(item, Step)]
    shares = [step.share for step in steps]
    assert shares == sorted(shares), "one bar, which never goes back"
    texts = [step.text for step in steps]  # of those that come within half a second the last
    assert "Merging, layer 1 of 56" in texts

    (alone,) = (
        item for item in studio.merge(session, order.merge) if isinstance(item, FinishedMerge)
    )
    assert merged.kohya.read_bytes() == alone.kohya.read_bytes()
    again = [
        item for item in studio.draw(session, order.drawn(merged)) if isinstance(item, Picture)
    ]
    drawn = order.scene.arranged(again)
    assert [it.path.read_bytes() for it in drawn] == [it.path.read_bytes() for it in pictures]


def test_what_is_wrong_is_reported_before_anything_is_drawn(
    studio: Studio, pair: tuple[Path, Path], bad_files: dict[str, Path]
) -> None:
    """Also on a fresh page, whose visit has not begun yet."""
    nothing = ComparisonOrder(MergeOrder(()), DrawOrder((), PROMPT))
    with pytest.raises(MergeError, match="at least two LoRA files, and there is none yet"):
        studio.merge_and_draw("", nothing)
    session, cards = added(studio, (*pair[:1], bad_files["sd15"]))
    picks = tuple(map(SelectedFile.of, cards))
    order = ComparisonOrder(MergeOrder(picks), DrawOrder(picks, PROMPT))
    seen = []
    with pytest.raises(MergeError, match="made for Stable Diffusion"):
        for item in studio.merge_and_draw(session, order):
            seen.append(item)
    assert not any(isinstance(item, Picture) for item in seen)

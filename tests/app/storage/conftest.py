"""A finished merge with its pictures, and an empty history."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from app.schemas.card import Card
from app.schemas.draw import DrawOrder, Picture
from app.schemas.merge import FinishedMerge, MergeOrder, SelectedFile
from app.service import Studio
from app.storage.history import History

Made = tuple[str, FinishedMerge, DrawOrder, tuple[Picture, ...]]


@pytest.fixture(scope="module")
def made(studio: Studio, pair: tuple[Path, Path]) -> Made:
    """A visit with a merge of the bundled pair and a sheet of pictures, not yet kept."""
    session, cards = studio.open_session(), list[Card]()
    for file in pair:
        cards.append(studio.add(session, file, cards))
    cat, pizza = map(SelectedFile.of, cards)
    picks = (replace(cat, strength=0.9, blocks="MIDD", prompts=("a sks cat",)), pizza)
    order = MergeOrder(picks, method="sum", rows=None, dtype="fp32")
    (merged,) = (item for item in studio.merge(session, order) if isinstance(item, FinishedMerge))
    scene = DrawOrder(picks, "a sks cat\na vxz pizza", merged=merged.kohya, method=merged.method,
                      seed=3, steps=2, negative="dog", maps=True)  # fmt: skip
    pictures = tuple(item for item in studio.draw(session, scene) if isinstance(item, Picture))
    return session, merged, scene, pictures


@pytest.fixture
def history(tmp_path: Path) -> History:
    return History(tmp_path / "history")

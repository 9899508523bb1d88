"""A finished merge with its pictures, an empty history, and a library to pack."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from app.schemas.card import Card
from app.schemas.draw import DrawOrder, Picture
from app.schemas.merge import FinishedMerge, MergeOrder, SelectedFile
from app.service import Studio
from app.settings.model import Settings
from app.storage.history import History
from tests.app.storage.packed_library import other_bytes

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


@pytest.fixture(scope="module")
def cards(tmp_path_factory: pytest.TempPathFactory, pair: tuple[Path, Path]) -> list[Card]:
    """Two LoRAs that are in no other place than the library."""
    return other_bytes(pair, tmp_path_factory.mktemp("own"))


@pytest.fixture
def filled(settings: Settings, cards: list[Card], tmp_path: Path) -> tuple[Studio, str]:
    """An app at home with both in its library, and a visit."""
    home = Studio(replace(settings, work=tmp_path / "work", home=tmp_path / "home"))
    session = home.open_session()
    for one in cards:
        assert home.keep(session, one) == ""
    return home, session

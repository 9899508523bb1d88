"""A pack that is dropped on the page offers its LoRAs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from playwright.sync_api import expect

from app.schemas.pack import OpenedPack
from app.service import Studio
from merging import formats
from merging.errors import MergeError
from merging.packs.packing import pack
from tests.app.accessibility import accessible
from tests.app.browsing import Arrive
from tests.conftest import distance


@pytest.fixture
def packed(pair: tuple[Path, Path], tmp_path: Path) -> Path:
    path = tmp_path / "shelf.safetensors"
    pack([formats.read(file) for file in pair], path, torch.float16)
    return path


def test_a_lora_of_a_pack_is_a_file_like_others(
    studio: Studio, pair: tuple[Path, Path], packed: Path
) -> None:
    session = studio.open_session()
    assert studio.open_pack(session, pair[0]) is None
    opened = studio.open_pack(session, packed)
    assert isinstance(opened, OpenedPack)
    assert [name for name, _ in opened.members] == ["sks-cat", "vxz-pizza"]
    file = studio.unpack(session, opened, "vxz-pizza")
    card = studio.add(session, file.path, [], file.name)
    assert (card.name, card.trigger, card.base) == ("vxz-pizza", "vxz pizza", "mini")
    assert distance(formats.read(file.path), formats.read(pair[1])) < 2e-3
    with pytest.raises(MergeError, match="has no LoRA “dog”"):
        studio.unpack(session, opened, "dog")


def test_a_dropped_pack_offers_its_loras(
    arrive: Arrive, pair: tuple[Path, Path], packed: Path
) -> None:
    visitor = arrive()
    page = visitor.page
    visitor.add(pair[0], packed)
    expect(visitor.loras).to_have_count(1)
    members = page.locator("#members label")
    expect(members).to_have_text(["sks-cat", "vxz-pizza"])
    members.nth(1).click()
    accessible(visitor, "#pack")
    visitor.keep("pack")
    page.get_by_role("button", name="Add these").click()
    expect(visitor.loras).to_have_count(2)
    expect(page.locator(".lora strong").nth(1)).to_have_text("vxz-pizza")

"""A pack that is dropped on the page offers its LoRAs; files of the library become one."""

from __future__ import annotations

import re
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


def test_files_of_the_library_become_one_and_come_back(
    arrive: Arrive, pair: tuple[Path, Path]
) -> None:
    visitor = arrive()
    page = visitor.page
    visitor.add(*pair)
    expect(visitor.loras).to_have_count(2)
    visitor.drawer(0).get_by_role("button", name="Remove").click()
    expect(visitor.loras).to_have_count(1)
    page.get_by_role("button", name="Your library").click()
    library, found = page.locator("#library"), page.locator("#found label")
    expect(found).to_have_count(2)
    found.nth(0).click()
    library.get_by_role("button", name="Pack these into one file").click()
    assert visitor.problems() == "A pack holds several LoRAs: tick at least two of your library."
    found.nth(1).click()
    page.locator("#pack-keep").get_by_label("99%", exact=True).check()
    library.get_by_role("button", name="Pack these into one file").click()
    offer = page.locator("#pack-offer")
    expect(offer).to_contain_text(re.compile(r"One pack of these 2 takes \d+ KB instead of"))
    expect(offer).to_contain_text(re.compile(r"vxz-pizza \d\.\d%"))
    visitor.keep("library-pack")
    accessible(visitor, "#library")
    offer.get_by_role("button", name="Replace the files").click()
    expect(offer).to_be_hidden()
    expect(found).to_have_text([re.compile(r"vxz-pizza.*packed, error"), re.compile("sks-cat")])
    found.nth(1).click()
    library.get_by_role("button", name="Add", exact=True).click()
    expect(visitor.loras).to_have_count(2)
    expect(page.locator(".lora strong").nth(1)).to_have_text("sks-cat")
    page.get_by_label("Search").fill("pizza")
    expect(found).to_have_count(1)
    found.click()
    library.get_by_role("button", name="Unpack").click()
    expect(found).to_have_text(re.compile("vxz-pizza · .*MB"))

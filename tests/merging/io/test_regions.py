"""Regions: written, read again, and refused in one sentence."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from merging.errors import MergeError
from merging.io.png import Origin, read_origin, save_png
from merging.io.regions import Mask, Region, cover, drawn_region, parse_region


def test_a_region_is_read_as_it_was_written() -> None:
    region = Region("a=b cat", (0.25, 0.0, 1.0, 0.5))
    assert parse_region(str(region)) == region


@pytest.mark.parametrize(
    ("text", "box"),
    [
        ("sks cat=2x2:8", (0.0, 0.0, 0.5, 0.5)),
        ("sks cat=3x2:84", (0.0, 0.0, 1.0, 1.0)),
        ("sks cat=4x1:6", (0.25, 0.0, 0.75, 1.0)),
    ],
)
def test_a_drawn_region_is_read_as_it_was_written(text: str, box: tuple[float, ...]) -> None:
    """Cell by cell from the upper left; its box is around all that is drawn."""
    region = parse_region(text)
    assert str(region) == text
    assert region.box == box
    assert region == drawn_region("sks cat", region.mask or Mask(()))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("cat", "'cat' is no region"),
        ("cat=0,0,1", "is no region"),
        ("cat=a,b,c,d", "is no region"),
        ("=0,0,1,1", "names no trigger"),
        ("cat=0.5,0,0.5,1", "shares of the picture"),
        ("cat=0,0,64,64", "shares of the picture"),
        ("cat=nan,0,1,1", "shares of the picture"),
        ("cat=2x2:g", "is no region"),
        ("cat=2x2:", "is no region"),
        ("cat=2x2:fff", "is no region"),
        ("cat=65x1:" + "f" * 17, "is no region"),
        ("cat=2x2:0", "Nothing is drawn"),
    ],
)
def test_another_text_is_refused(text: str, words: str) -> None:
    with pytest.raises(MergeError, match=words):
        parse_region(text)


def test_cells_are_covered_by_their_share() -> None:
    assert cover(0.125, 0.625, 4) == [0.5, 1.0, 0.5, 0.0]


def test_a_png_has_its_regions(tmp_path: Path) -> None:
    regions = (Region("cat", (0.0, 0.0, 0.5, 1.0)), parse_region("dog=3x3:058"))
    image = Image.new("RGB", (8, 8))
    image.info.update(Origin("two", compose="regions", regions=regions).texts())
    save_png(image, tmp_path / "two.png")
    origin, _ = read_origin(tmp_path / "two.png")
    assert (origin.compose, origin.regions) == ("regions", regions)
    assert "regions" not in Origin("one").texts()["iteris"], "older programs know no such field"

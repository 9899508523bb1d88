"""Regions: written, read again, and refused in one sentence."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from merging.errors import MergeError
from merging.io.png import Origin, read_origin, save_png
from merging.io.regions import Region, cover, parse_region


def test_a_region_is_read_as_it_was_written() -> None:
    region = Region("a=b cat", (0.25, 0.0, 1.0, 0.5))
    assert parse_region(str(region)) == region


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
    ],
)
def test_another_text_is_refused(text: str, words: str) -> None:
    with pytest.raises(MergeError, match=words):
        parse_region(text)


def test_cells_are_covered_by_their_share() -> None:
    assert cover(0.125, 0.625, 4) == [0.5, 1.0, 0.5, 0.0]


def test_a_png_has_its_regions(tmp_path: Path) -> None:
    regions = (Region("cat", (0.0, 0.0, 0.5, 1.0)), Region("dog", (0.5, 0.0, 1.0, 1.0)))
    image = Image.new("RGB", (8, 8))
    image.info.update(Origin("two", compose="regions", regions=regions).texts())
    save_png(image, tmp_path / "two.png")
    origin, _ = read_origin(tmp_path / "two.png")
    assert (origin.compose, origin.regions) == ("regions", regions)
    assert "regions" not in Origin("one").texts()["iteris"], "older programs know no such field"

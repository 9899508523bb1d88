"""``--region``: boxes, drawn masks, and pictures that are white where a concept is to be."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from merging.cli.arguments.region_argument import region_argument
from merging.errors import MergeError


def test_a_picture_is_a_region_where_it_is_white(tmp_path: Path) -> None:
    picture = Image.new("L", (200, 100))
    picture.paste(255, (50, 0, 150, 100))
    picture.save(tmp_path / "mask.png")
    region = region_argument(f"sks cat={tmp_path / 'mask.png'}")
    assert (region.phrase, region.box) == ("sks cat", (0.25, 0.0, 0.75, 1.0))
    assert region_argument(str(region)) == region


def test_a_picture_in_which_nothing_is_white_is_refused(tmp_path: Path) -> None:
    Image.new("RGB", (64, 64)).save(tmp_path / "black.png")
    with pytest.raises(MergeError, match="Nothing is drawn"):
        region_argument(f"cat={tmp_path / 'black.png'}")
    with pytest.raises(MergeError, match="no longer exists"):
        region_argument("cat=nowhere.png")

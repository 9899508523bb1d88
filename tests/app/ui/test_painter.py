"""Regions painted by hand: what the brush leaves is what the field says."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from merging.io.regions import parse_region
from tests.app.browsing import PHONE, Arrive


def stroke(
    page: Page, canvas: Locator, start: tuple[float, float], end: tuple[float, float]
) -> None:
    """Drag the brush between two places, in shares of the canvas."""
    frame = canvas.bounding_box()
    assert frame
    (x0, y0), (x1, y1) = (
        (frame["x"] + x * frame["width"], frame["y"] + y * frame["height"]) for x, y in (start, end)
    )
    page.mouse.move(x0, y0)
    page.mouse.down()
    page.mouse.move(x1, y1, steps=12)
    page.mouse.up()


@pytest.mark.browser
@pytest.mark.slow
def test_regions_are_painted(arrive: Arrive, pair: tuple[Path, Path]) -> None:
    """Below the typed box of one LoRA the other one is painted, then a part of it is erased."""
    visitor = arrive(PHONE)
    page = visitor.page
    visitor.add(*pair)
    expect(visitor.loras).to_have_count(2)
    visitor.fold("Picture settings")
    visitor.compose("Regions")
    field = page.locator("#regions textarea")
    field.fill("sks cat=0,0,1,0.25")
    painter = page.locator("#painter")
    canvas = painter.locator("canvas")
    painter.get_by_role("button", name="vxz pizza").click()
    canvas.scroll_into_view_if_needed()
    stroke(page, canvas, (0.2, 0.75), (0.8, 0.75))
    cat, pizza = field.input_value().splitlines()
    assert cat == "sks cat=0,0,1,0.25", "what nobody touched stays as it was typed"
    assert parse_region(pizza).box == pytest.approx((0.2, 0.75, 0.8, 0.75), abs=0.07)
    painter.get_by_role("button", name="Erase").click()
    stroke(page, canvas, (0.8, 0.75), (0.5, 0.75))
    _, pizza = field.input_value().splitlines()
    assert parse_region(pizza).box == pytest.approx((0.2, 0.75, 0.45, 0.75), abs=0.07)
    visitor.keep("painted")

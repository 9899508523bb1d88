"""The first screen: a comparison that moves, few words, few Tab stops, no sideways scroll."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import ViewportSize, expect

from app.ui.sections.hero import CUT
from tests.app.accessibility import accessible
from tests.app.browsing import DESKTOP, PHONE, Arrive
from tests.app.page_counts import SEEN, SIZES, height, tab_stops, words

MOST_WORDS, MOST_STOPS = 60, 10
# Pixels that the page is high with two LoRAs, by the width of the window.
MOST_HEIGHT = {"1440 px": 1250, "1280 px": 1250, "768 px": 1350, "375 px": 1450}


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_a_newcomer_meets_a_picture_and_few_words(arrive: Arrive, size: ViewportSize) -> None:
    visitor = arrive(size)
    page = visitor.page
    assert visitor.fits()
    assert size == PHONE or height(page) <= size["height"], "nothing has to be scrolled"
    assert words(page) <= MOST_WORDS, page.evaluate(SEEN)
    assert tab_stops(page) <= MOST_STOPS
    divider = page.locator("#comparison .divider")
    expect(divider).to_have_css("animation-name", "sweep-divider")
    page.locator("#comparison input[type=range]").press("ArrowRight")
    expect(divider).to_have_css("animation-name", "none")
    expect(page.locator("#comparison .pair")).to_have_attribute("style", f"--cut: {CUT + 1}%;")
    expect(page.locator("#dock")).to_be_hidden()
    accessible(visitor)


def test_the_workbench_stays_short(arrive: Arrive, pair: tuple[Path, Path]) -> None:
    """With two LoRAs; one part of it is shown at a time where there is no room for two columns."""
    visitor = arrive()
    visitor.add(*pair)
    expect(visitor.page.locator("#conflicts")).to_be_visible()
    for size, viewport in SIZES.items():
        visitor.page.set_viewport_size(viewport)
        assert height(visitor.page) <= MOST_HEIGHT[size], size
        assert visitor.fits()
        seen = [visitor.page.locator(part).is_visible() for part in ("#rail", "#stage", "#tabs")]
        assert seen == ([True, True, False] if viewport["width"] > 900 else [True, False, True])


def test_who_wants_no_motion_sees_none(arrive: Arrive) -> None:
    visitor = arrive()
    still = """() => [...document.querySelectorAll('#page, #page *')].every(it =>
      ['', '::before', '::after'].every(part => {
        const style = getComputedStyle(it, part || null);
        return style.transitionDuration === '0s' && style.animationName === 'none';
      }))"""
    assert not visitor.page.evaluate(still)
    visitor.page.emulate_media(reduced_motion="reduce")
    assert visitor.page.evaluate(still)

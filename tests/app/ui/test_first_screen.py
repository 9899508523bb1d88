"""The first screen: a comparison that moves, few words, few Tab stops, no sideways scroll."""

from __future__ import annotations

import pytest
from playwright.sync_api import ViewportSize, expect

from app.ui.sections.hero import CUT
from tests.app.accessibility import accessible
from tests.app.browsing import DESKTOP, PHONE, Arrive
from tests.app.page_counts import tab_stops, words

MOST_WORDS, MOST_STOPS = 60, 10


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_a_newcomer_meets_a_picture_and_few_words(arrive: Arrive, size: ViewportSize) -> None:
    visitor = arrive(size)
    page = visitor.page
    assert visitor.fits()
    assert words(page) <= MOST_WORDS
    assert tab_stops(page) <= MOST_STOPS
    divider = page.locator("#comparison .divider")
    expect(divider).to_have_css("animation-name", "sweep-divider")
    page.locator("#comparison input[type=range]").press("ArrowRight")
    expect(divider).to_have_css("animation-name", "none")
    expect(page.locator("#comparison .pair")).to_have_attribute("style", f"--cut: {CUT + 1}%;")
    expect(page.locator("#dock")).to_be_hidden()
    accessible(visitor)


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

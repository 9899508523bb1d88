"""The page on a phone: everything that is pressed is large enough for a finger."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import ViewportSize, expect

from tests.app.browsing import Arrive

PHONE = ViewportSize(width=390, height=844)
FINGER = 44  # CSS pixels, of the height
PRESSED = "#page button, #page a, #page summary, #page input"
# Those that are seen and too low; an input inside a label is pressed by that.
SMALL = """([pressed, least]) => [...document.querySelectorAll(pressed)]
  .filter(it => it.checkVisibility({ opacityProperty: true, visibilityProperty: true }))
  .filter(it => it.getClientRects().length)
  .map(it => [it, (it.matches('input') ? it.closest('label') ?? it : it).getBoundingClientRect()])
  .filter(([, box]) => box.height < least - 0.5)
  .map(([it, box]) => `${it.outerHTML.slice(0, 90)} ${Math.round(box.height)}`)"""


def test_everything_pressed_is_as_large_as_a_finger(
    arrive: Arrive, pair: tuple[Path, Path]
) -> None:
    visitor = arrive(PHONE)
    page = visitor.page
    assert visitor.fits()
    assert page.evaluate(SMALL, [PRESSED, FINGER]) == []
    visitor.add(*pair)
    expect(visitor.loras).to_have_count(2)
    expect(page.locator("#conflicts")).to_be_visible()
    assert visitor.fits()
    visitor.keep("phone-workbench")
    assert page.evaluate(SMALL, [PRESSED, FINGER]) == []

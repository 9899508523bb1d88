"""The history in a real browser, on a phone in the dark and beside it."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from merging.methods import METHODS
from tests.app.accessibility import accessible
from tests.app.browsing import DESKTOP, PHONE, Arrive, Visitor


def entries(page: Page) -> list[str]:
    """The titles of the entries, from above."""
    return page.locator("#history .entry h3:visible").all_inner_texts()


def merged_twice(visitor: Visitor, pair: tuple[Path, Path]) -> None:
    """An average and a sum, with pictures of one step."""
    visitor.add(*pair)
    expect(visitor.loras).to_have_count(2)
    visitor.steps(1)
    visitor.one()
    visitor.page.get_by_label("Heat maps: show").uncheck()
    for name in ("average", "sum"):
        visitor.method(name)
        expect(visitor.press).to_contain_text("Merge and draw")
        visitor.press.click()
        expect(
            visitor.page.locator("#pictures").get_by_alt_text(f"Merged ({METHODS[name].title})")
        ).to_be_visible()
        expect(visitor.press).to_contain_text("Draw again")
        expect(visitor.press).to_be_enabled()


def compared(visitor: Visitor) -> None:
    """The two on the list are ticked, laid side by side, and drawn anew with another seed."""
    page = visitor.page
    for tick in page.locator("#history").get_by_label("Compare").all()[:2]:
        tick.check()
    page.get_by_role("button", name="Compare the two ticked").click()
    told = page.locator("#differences")
    expect(told.locator("tbody tr")).to_have_text("MethodWeighted averageWeighted sum")
    pairs = page.locator("#pairs .thumbnail-item img")
    expect(pairs).to_have_count(2)
    assert [str(each.get_attribute("alt"))[:1] for each in pairs.all()] == ["A", "B"]
    page.get_by_label("Seed", exact=True).fill("5")
    page.get_by_role("button", name="Draw both anew").click()
    visitor.hear("done", "both are drawn")
    expect(page.locator("#pairs .caption-label").last).to_contain_text("seed 5")


def beside_another(visitor: Visitor) -> None:
    """The average is on the page; the sum, the one other merge, is drawn as one more column."""
    page = visitor.page
    page.get_by_label("Other merges").click()
    page.get_by_role("option").click()
    page.get_by_role("button", name="Draw again").click()
    titles = ("Merged (Weighted average)", "Weighted sum of sks-cat + vxz-pizza, no. 2")
    expect(visitor.pictures).to_have_count(6)
    for title, place in zip(titles, (".large", ".small-shots"), strict=True):
        expect(page.locator(place).get_by_alt_text(title)).to_be_visible()
    visitor.hear("done")
    expect(page.locator("#history .entry:visible")).to_have_count(4)
    newest = page.locator("#history .entry").first.locator("img")
    expect(newest.nth(-2)).to_have_class("merged")
    expect(page.locator("#others")).to_contain_text(titles[1])
    visitor.keep("others")
    page.set_viewport_size(PHONE)
    assert visitor.fits()
    visitor.keep("others-phone")
    accessible(visitor, "#stage")
    page.set_viewport_size(DESKTOP)


@pytest.mark.slow(60)
def test_what_was_made_is_opened_made_again_compared_and_deleted(
    arrive: Arrive, pair: tuple[Path, Path]
) -> None:
    visitor = arrive(PHONE)
    page = visitor.page
    page.emulate_media(color_scheme="dark")
    merged_twice(visitor, pair)
    page.get_by_role("link", name="History").click()
    shown = page.locator("#history .entry:visible")
    expect(shown).to_have_count(2)
    names = [f"Weighted {how} of sks-cat + vxz-pizza" for how in ("sum", "average")]
    assert entries(page) == names
    expect(shown.first.locator("img")).to_have_count(5)
    assert visitor.fits()
    visitor.keep("history-phone-dark")
    accessible(visitor, "#history")

    page.emulate_media(color_scheme="dark")
    keep = page.locator("#history").get_by_label("Keep").nth(1)
    keep.check()
    delete = page.locator("#history").get_by_role("button", name="Delete")
    expect(delete.nth(1)).to_be_disabled()
    expect(delete.first).to_be_enabled()
    compared(visitor)
    page.set_viewport_size(DESKTOP)
    visitor.keep("compared-dark")

    visitor.drawer(0).get_by_role("button", name="Remove").click()
    expect(visitor.loras).to_have_count(1)
    page.get_by_role("button", name="Open again").nth(1).click()
    expect(page.locator("#prompt")).to_be_in_viewport()
    expect(page.locator("#summary")).to_contain_text("Weighted average")
    expect(visitor.loras).to_have_count(2)
    expect(page.locator("#method input[value=average]")).to_be_checked()
    expect(page.get_by_label("Seed", exact=True)).to_have_value("0")
    expect(page.locator("#pictures").get_by_alt_text("Merged (Weighted average)")).to_be_visible()
    expect(visitor.press).to_contain_text("Draw again")

    page.get_by_role("link", name="History").click()
    page.get_by_role("button", name="Run again").nth(1).click()
    expect(page.locator("#history-said")).to_contain_text("the same as before, byte for byte")
    visitor.hear("done")
    expect(shown).to_have_count(3)
    kept = page.locator("#history").get_by_label("Keep").nth(2)
    expect(kept).to_be_checked()
    kept.uncheck()
    expect(delete.nth(2)).to_be_enabled()
    beside_another(visitor)
    for left in (3, 2, 1, 0):
        delete.first.click()
        expect(shown).to_have_count(left)
    expect(page.locator("#others")).to_be_hidden()
    other = arrive()
    other.page.get_by_role("link", name="History").click()
    expect(other.page.locator("#history")).to_contain_text("Nothing yet")

"""A page that is loaded again has its files, its settings, its pictures, and its running job."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from playwright.sync_api import expect

from app.service import Studio
from app.ui.handlers.restore import Drafts
from tests.app.browsing import Arrive

MINE = "a photo of a sks cat and a vxz pizza, as I like it"


def test_nothing_is_lost_when_the_page_is_loaded_again(
    arrive: Arrive, pair: tuple[Path, Path]
) -> None:
    visitor = arrive()
    page = visitor.page
    visitor.add(*pair)
    expect(visitor.loras).to_have_count(2)
    visitor.number("Strength", 0.9)
    visitor.method("average")
    visitor.steps(16)  # still at work when the page comes back
    visitor.prompt.fill(MINE)
    expect(page.locator("#chips .said")).to_have_count(2)
    visitor.number("Pictures", 1)
    visitor.press.click()
    expect(visitor.running).to_contain_text(re.compile("Drawing [2-5] of 5"))
    page.reload()
    expect(visitor.loras).to_have_count(2)
    visitor.complaints.clear()  # Gradio's client has some about streams that a reload cuts
    expect(page.get_by_label("number input for Strength").first).to_have_value("0.9")
    expect(visitor.prompt).to_have_value(MINE)
    expect(visitor.running).to_be_visible()
    visitor.hear("done")
    expect(visitor.pictures).to_have_count(5)
    expect(visitor.press).to_contain_text("Draw again")
    page.get_by_role("link", name="History").click()
    made = page.locator("#history .entry h3:visible", has_text="Weighted average")
    expect(made.first).to_be_visible()
    count = made.count()

    page.reload()
    expect(visitor.loras).to_have_count(2)
    visitor.complaints.clear()
    expect(visitor.pictures).to_have_count(5)
    expect(page.locator("#summary")).to_contain_text("sks cat, vxz pizza")
    expect(page.locator("#method input[value=average]")).to_be_checked()
    expect(visitor.press).to_contain_text("Draw again")
    visitor.fold("Picture settings")
    expect(page.get_by_label("number input for Steps")).to_have_value("16")
    page.get_by_role("link", name="History").click()
    expect(made).to_have_count(count)


def test_a_new_visitor_gets_nothing_of_others(arrive: Arrive, pair: tuple[Path, Path]) -> None:
    first = arrive()
    first.add(*pair)
    expect(first.loras).to_have_count(2)
    second = arrive()
    expect(second.page.locator("#upload")).to_be_visible()
    expect(second.loras).to_have_count(0)


def test_a_visit_comes_back_to_its_owner_while_it_exists(studio: Studio) -> None:
    drafts = Drafts()
    guest, member = studio.open_session("1.2.3.4"), studio.open_session("login ann")
    for token in (guest, member):
        drafts.keep(token, {"token": token})
    assert drafts.of(studio, guest, "5.6.7.8") == {"token": guest}, "addresses change"
    assert drafts.of(studio, member, "login ann") == {"token": member}
    assert drafts.of(studio, member, "login bob") is drafts.of(studio, member, "1.2.3.4") is None
    assert drafts.of(studio, "../" + guest, "") is drafts.of(studio, "", "") is None
    drafts.keep("gone", {})
    assert drafts.of(studio, "gone", "") is None


def test_a_new_visit_costs_no_description_of_every_widget(blocks: Any) -> None:
    """Gradio makes one for deep links: 0.1 s and 0.75 MB for each visit and call."""
    assert blocks.app.state_holder["a new visit"].config_values == {}

"""How much the page asks of a newcomer: ``python -m tests.app.page_counts`` prints it.

It needs the browser of the tests. Words are what is seen and has a letter or a digit.
"""

from __future__ import annotations

import re
import tempfile
import time

from playwright.sync_api import Browser, Page, ViewportSize, expect

from app.examples import examples
from tests.app.browsing import DESKTOP, PHONE, Visitor, chromium
from tests.app.page_speed import started, wait_for

SIZES = {"1440 px": ViewportSize(width=1440, height=900), "1280 px": DESKTOP, "375 px": PHONE}
WORD = re.compile(r"\S*\w\S*")
SEEN = """() => {
  const hidden = [...document.querySelectorAll('.sr-only')];
  hidden.forEach(each => each.style.display = 'none');
  const text = document.body.innerText;
  hidden.forEach(each => each.style.display = '');
  return text;
}"""
MAX_STOPS = 200


def words(page: Page) -> int:
    """The words that are seen."""
    return len(WORD.findall(str(page.evaluate(SEEN))))


def tab_stops(page: Page) -> int:
    """How many elements the Tab key reaches before it leaves the page."""
    page.evaluate("document.activeElement.blur()")
    for count in range(MAX_STOPS):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement === document.body"):
            return count
    return MAX_STOPS


def height(page: Page) -> int:
    """Of the whole page, in pixels."""
    return int(page.evaluate("document.documentElement.scrollHeight"))


def first_picture(visitor: Visitor) -> float:
    """The share of the time of an example, from its click, after which the first picture stands."""
    begun = time.perf_counter()
    visitor.page.get_by_role("button", name=examples()[0].title).click()
    expect(visitor.pictures.first).to_be_visible()
    first = time.perf_counter() - begun
    visitor.hear("done")
    return first / (time.perf_counter() - begun)


def measure(browser: Browser, url: str) -> dict[str, str]:
    """All counts, by what they are of."""
    found: dict[str, str] = {}
    for name, size in SIZES.items():
        page = browser.new_context(viewport=size).new_page()
        visitor = Visitor(page).open(url)
        found[f"words on the first screen, {name}"] = f"{words(page)}"
        found[f"Tab stops on the first screen, {name}"] = f"{tab_stops(page)}"
        share = first_picture(visitor)
        found[f"share of the wait before the first picture, {name}"] = f"{share:.0%}"
        found[f"height with a merge of two LoRAs, {name}"] = f"{height(page)} px"
        page.context.close()
    return found


if __name__ == "__main__":
    with chromium() as browser, tempfile.TemporaryDirectory() as folder, started(folder) as url:
        wait_for(url)
        for title, value in measure(browser, url).items():
            print(f"{title}: {value}")

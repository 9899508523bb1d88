"""How much the page asks of a newcomer: ``python -m tests.app.page_counts`` prints it.

It needs the browser of the tests. Words are what is seen and has a letter or a digit.
"""

from __future__ import annotations

import re
import tempfile
from dataclasses import dataclass

from playwright.sync_api import Browser, Page, ViewportSize

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
LAST = 5.0  # seconds
# Seconds since now: of the first picture, of every time that is told, and of the end.
LISTEN = r"""() => {
  const begun = performance.now(), since = () => (performance.now() - begun) / 1000;
  const heard = (window.heard = { told: [], first: 0, end: 0 });
  const timer = setInterval(() => {
    if (!heard.first && document.querySelector('#pictures img')?.complete) heard.first = since();
    const said = document.querySelector('#status .running')?.innerText ?? '';
    const told = said.match(/about (\d+ \w+) left/);
    if (told) heard.told.push([since(), told[1]]);
    if (heard.told.length && document.querySelector('#status .done')) {
      heard.end = since();
      clearInterval(timer);
    }
  }, 100);
}"""


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


@dataclass(frozen=True)
class Wait:
    """An example from its click to its end."""

    seconds: float
    first: float  # seconds until the first picture stood
    told: list[tuple[float, float]]  # when the seconds that are left were told, and how many

    @property
    def error(self) -> float:
        """The largest factor between what was told and what was true, in the second half.

        Of the last seconds only those count that are no rounding.
        """
        late = [
            (left, self.seconds - at)
            for at, left in self.told
            if at >= self.seconds / 2 and self.seconds - at >= LAST
        ]
        return max((max(left / true, true / max(left, 1)) for left, true in late), default=1.0)


def waited(visitor: Visitor) -> Wait:
    """One click on an example, at its defaults."""
    visitor.page.evaluate(LISTEN)
    visitor.page.get_by_role("button", name=examples()[0].title).click()
    visitor.hear("done")
    heard = visitor.page.evaluate("window.heard")
    told = [(at, seconds_of(text)) for at, text in heard["told"] if text]
    return Wait(heard["end"], heard["first"], told)


def seconds_of(text: str) -> float:
    """Of a time as the page says it: ``40 s`` or ``3 min``."""
    number, unit = text.split()
    return float(number) * {"s": 1, "min": 60, "h": 3600}[unit]


def measure(browser: Browser, url: str) -> dict[str, str]:
    """All counts, by what they are of."""
    found: dict[str, str] = {}
    for name, size in SIZES.items():
        page = browser.new_context(viewport=size).new_page()
        visitor = Visitor(page).open(url)
        found[f"words on the first screen, {name}"] = f"{words(page)}"
        found[f"Tab stops on the first screen, {name}"] = f"{tab_stops(page)}"
        found[f"height of the first screen, {name}"] = f"{height(page)} px"
        wait = waited(visitor)
        found[f"whole wait of an example, {name}"] = f"{wait.seconds:.0f} s"
        found[f"of it before the first picture, {name}"] = f"{wait.first / wait.seconds:.1%}"
        found[f"told and true time in the second half, {name}"] = f"within {wait.error:.2f}"
        found[f"height with a merge of two LoRAs, {name}"] = f"{height(page)} px"
        page.context.close()
    return found


if __name__ == "__main__":
    with chromium() as browser, tempfile.TemporaryDirectory() as folder, started(folder) as url:
        wait_for(url)
        for title, value in measure(browser, url).items():
            print(f"{title}: {value}")

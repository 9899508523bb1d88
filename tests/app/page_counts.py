"""How much the page asks of a newcomer: ``python -m tests.app.page_counts`` prints it.

It needs the browser of the tests, and runs one example. Words are what is seen and has a letter or
a digit.
"""

from __future__ import annotations

import re
import tempfile
from dataclasses import dataclass

from playwright.sync_api import Browser, Page, ViewportSize, expect

from app.examples import examples
from merging.benchmarks.machine import machine
from tests.app.browsing import DESKTOP, PHONE, Visitor, chromium
from tests.app.page_speed import started, wait_for

SIZES = {
    "1440 px": ViewportSize(width=1440, height=900),
    "1280 px": DESKTOP,
    "768 px": ViewportSize(width=768, height=1024),
    "375 px": PHONE,
}
WORD = re.compile(r"\S*\w\S*")
SEEN = """() => {
  const hidden = [...document.querySelectorAll('.sr-only')];
  hidden.forEach(each => each.style.display = 'none');
  const text = document.body.innerText;
  hidden.forEach(each => each.style.display = '');
  return text;
}"""
MAX_STOPS = 200
WORDS, STOPS = "words on the first screen", "Tab stops there"
FIRST, TWO = "its height", "height with two LoRAs"
DRAWN = "height with all their pictures"
LAST = 5.0  # seconds
MOST = 3_600_000  # ms that an example may take, on whatever machine
FINISHED = 128  # pixels of the embedded base's pictures; rough previews are smaller
# Seconds since now: of the first finished picture, of every time that is told, and of the end.
LISTEN = r"""(finished) => {
  const begun = performance.now(), since = () => (performance.now() - begun) / 1000;
  const heard = (window.heard = { told: [], first: 0, end: 0 });
  const timer = setInterval(() => {
    const pictures = [...document.querySelectorAll('#pictures img')];
    if (!heard.first && pictures.some(it => it.naturalWidth >= finished)) heard.first = since();
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
    visitor.page.evaluate(LISTEN, FINISHED)
    visitor.page.get_by_role("button", name=examples()[0].title).click()
    expect(visitor.page.locator("#status .done")).to_be_visible(timeout=MOST)
    heard = visitor.page.evaluate("window.heard")
    told = [(at, seconds_of(text)) for at, text in heard["told"] if text]
    return Wait(heard["end"], heard["first"], told)


def seconds_of(text: str) -> float:
    """Of a time as the page says it: ``40 s`` or ``3 min``."""
    number, unit = text.split()
    return float(number) * {"s": 1, "min": 60, "h": 3600}[unit]


Row = dict[str, str]  # by size of the window


def looked(browser: Browser, url: str) -> dict[str, Row]:
    """What a newcomer meets, and the height with two LoRAs, at every size."""
    rows: dict[str, Row] = {name: {} for name in (WORDS, STOPS, FIRST, TWO)}
    for size, viewport in SIZES.items():
        page = browser.new_context(viewport=viewport).new_page()
        visitor = Visitor(page).open(url)
        rows[WORDS][size], rows[STOPS][size] = f"{words(page)}", f"{tab_stops(page)}"
        rows[FIRST][size] = f"{height(page)} px"
        visitor.add(*examples()[0].files)
        expect(page.locator("#conflicts")).to_be_visible()
        rows[TWO][size] = f"{height(page)} px"
        page.context.close()
    return rows


def measure(browser: Browser, url: str) -> tuple[dict[str, Row], Wait]:
    """The counts, with the heights after an example; and its wait."""
    rows = looked(browser, url)
    page = browser.new_context(viewport=DESKTOP).new_page()
    wait = waited(Visitor(page).open(url))
    rows[DRAWN] = {}
    for size, viewport in SIZES.items():
        page.set_viewport_size(viewport)
        rows[DRAWN][size] = f"{height(page)} px"
    page.context.close()
    return rows, wait


def table(rows: dict[str, Row]) -> str:
    """The counts in Markdown."""
    head = [f"| | {' | '.join(SIZES)} |", f"| --- |{' --- |' * len(SIZES)}"]
    cells = {name: " | ".join(row[size] for size in SIZES) for name, row in rows.items()}
    return "\n".join([*head, *(f"| {name} | {row} |" for name, row in cells.items())])


def told(wait: Wait) -> str:
    """The wait in one sentence."""
    return (
        f"“{examples()[0].title}” took {wait.seconds:.0f} s; its first picture stood after "
        f"{wait.first / wait.seconds:.1%} of that; in the second half, the time that was told was "
        f"right within a factor of {wait.error:.2f}."
    )


if __name__ == "__main__":
    with chromium() as browser, tempfile.TemporaryDirectory() as folder, started(folder) as url:
        wait_for(url)
        rows, wait = measure(browser, url)
        print(f"{table(rows)}\n\n{told(wait)}")
        print(f"\nMeasured on {machine('cpu')}; `python -m tests.app.page_counts`.")

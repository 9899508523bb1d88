"""How long a visitor waits: ``python -m tests.app.page_speed`` starts the app and opens its page.

It needs the browser of the tests. Nothing else should run meanwhile: these are seconds, not ratios.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.error import URLError
from urllib.request import urlopen

from playwright.sync_api import Browser, expect

from app.schemas.draw import SEEDS
from merging.benchmarks.machine import machine
from tests.app.browsing import DESKTOP, Visitor, chromium
from tests.app.conftest import free_port
from tests.conftest import ROOT

OFTEN, PATIENCE = 0.01, 120.0  # seconds: between two knocks, and until we give up
LOADS = 3
EXAMPLE = "cat + pizza"


def measure() -> dict[str, float]:
    """Seconds by what they are of, in the order in which a visitor meets them."""
    with chromium() as browser, tempfile.TemporaryDirectory() as folder, started(folder) as url:
        begun = time.perf_counter()
        wait_for(url)
        found = {"from the start of the process to the first page served": since(begun)}
        found["the page in a browser, right after that"] = loaded(browser, url)
        found[f"from the click on “{EXAMPLE}” to the last picture"] = clicked(browser, url)
        loads = [loaded(browser, url) for _ in range(LOADS)]
        found[f"the page in a browser later, best of {LOADS}"] = min(loads)
    return found


@contextmanager
def started(folder: str) -> Iterator[str]:
    """``python -m app`` on a port of its own; its address, at once."""
    url = f"http://127.0.0.1:{(port := free_port())}/"
    environ = {**os.environ, "TMPDIR": folder, "ITERIS_HOME": "off", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "app", "--port", str(port)]
    with subprocess.Popen(command, cwd=ROOT, env=environ, stdout=subprocess.DEVNULL) as program:
        try:
            yield url
        finally:
            program.terminate()


def wait_for(url: str) -> None:
    """Until the whole page is served once."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        try:
            with urlopen(url, timeout=PATIENCE) as answer:
                answer.read()
                return
        except URLError:
            time.sleep(OFTEN)
    raise SystemExit("the app does not answer")


def loaded(browser: Browser, url: str) -> float:
    """Of a new visitor, until the page can be used."""
    page = browser.new_context(viewport=DESKTOP).new_page()
    begun = time.perf_counter()
    Visitor(page).open(url)
    seconds = since(begun)
    page.context.close()
    return seconds


def clicked(browser: Browser, url: str) -> float:
    """The one-click example, everything at its default; the first one waits for torch as well."""
    page = browser.new_page(viewport=DESKTOP)
    visitor = Visitor(page).open(url)
    begun = time.perf_counter()
    page.get_by_role("button", name=EXAMPLE).click()
    visitor.hear("done")
    seconds = since(begun)
    expect(visitor.pictures).to_have_count(5 * 3 * SEEDS)
    page.close()
    return seconds


def since(begun: float) -> float:
    return time.perf_counter() - begun


def table(found: dict[str, float]) -> str:
    """The result in Markdown."""
    rows = [f"| {name} | {seconds:.1f} |" for name, seconds in found.items()]
    return "\n".join(["| | seconds |", "| --- | --- |", *rows])


if __name__ == "__main__":
    print(table(measure()))
    print(f"\nMeasured on {machine('cpu')}; `python -m tests.app.page_speed`.")

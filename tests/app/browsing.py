"""A visitor in a real browser: what the page's tests and the picture in the README share."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Locator, Page, ViewportSize, expect, sync_playwright

from merging.methods import METHODS

ARTIFACTS = Path(__file__).parents[2] / "test-artifacts"
CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
PATIENCE = 300_000  # ms: a merge on two busy cores
SETTLED, TRIES = 500, 60  # ms between typing and looking, and how often to type again
SMALL = "64x64"  # a quarter of the embedded model's own size
expect.set_options(timeout=PATIENCE)
DESKTOP, PHONE = ViewportSize(width=1280, height=800), ViewportSize(width=375, height=760)


class Visitor:
    """One open page, and whatever went wrong on it."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.complaints: list[str] = []
        page.set_default_timeout(PATIENCE)
        page.on("pageerror", lambda error: self.complaints.append(f"page error: {error}"))
        page.on("console", self._hear)
        page.on("request", lambda request: self._see(request.url))

    def open(self, url: str) -> Visitor:
        """Load the page and wait until it stands."""
        self.page.goto(url)
        expect(self.page.get_by_role("heading", name="IterIS Studio")).to_be_visible()
        expect(self.page.locator("#upload")).to_be_visible()
        expect(self.page.get_by_text("Loading...", exact=True)).to_have_count(0)  # Gradio's
        return self

    def add(self, *files: Path) -> None:
        """Drop files on the page."""
        self.reach(self.page.locator("#upload"))
        self.page.locator("#upload input[type=file]").set_input_files(list(files))

    def reach(self, target: Locator) -> None:
        """Open the tab in which it is, on a phone."""
        for tab in self.page.locator("#tabs button:visible").all():
            if target.is_visible():
                return
            tab.click()

    def fold(self, title: str) -> None:
        """Open a fold, unless it is open."""
        button = self.page.locator(".label-wrap", has_text=title).first
        self.reach(button)
        if "open" not in str(button.get_attribute("class")).split():
            button.click()

    def quick(self) -> None:
        """Small numbers: few prompts, few layers, few steps."""
        self.prompts(2)
        self.page.get_by_label("text encoder + cross-attention (fast)").check()
        self.steps(3)

    def prompts(self, count: int) -> None:
        """So many calibration prompts per LoRA."""
        self.fold("Settings of the merge")
        self.number("Calibration prompts per LoRA", count)

    def steps(self, count: int) -> None:
        """So many sampling steps a picture."""
        self.fold("Picture settings")
        self.number("Steps", count)

    def one(self, size: str = SMALL) -> None:
        """A single comparison: the first prompt, one seed, and pictures of this size."""
        self.reach(self.prompt)
        self.prompt.fill(self.prompt.input_value().splitlines()[0])
        self.prompt.blur()
        self.fold("Picture settings")
        self.number("Pictures", 1)
        self.page.get_by_label("Size").fill(size)

    def number(self, label: str, value: float) -> None:
        """Type into the number beside the first slider of this name, and see it taken.

        A script types within milliseconds of a widget's appearing, when the page may still be
        filling it: like a person who sees the old number come back, it then types again.
        """
        field = self.page.get_by_label(f"number input for {label}").first
        slider = self.page.get_by_label(f"range slider for {label}").first
        self.reach(field)
        for _ in range(TRIES):
            field.fill(str(value))
            field.press("Tab")
            self.page.wait_for_timeout(SETTLED)
            if slider.input_value() == str(value):
                return
        raise AssertionError(f"{label}: {value} was typed {TRIES} times and not taken")

    def compose(self, title: str) -> None:
        """Choose a way to compose without merging."""
        self.page.locator("#composed input").click()
        self.page.get_by_role("option", name=title).click()

    def method(self, name: str) -> None:
        """Choose a method, among the others if need be, and see its sentence."""
        self.reach(self.page.locator("#groups"))
        self.page.get_by_label("Other methods…").check()
        self.page.locator(f"#method input[value='{name}']").check()
        expect(self.page.locator("#about-method")).to_contain_text(METHODS[name].source)

    @property
    def prompt(self) -> Locator:
        """The prompts, one per line."""
        return self.page.locator("#prompt textarea")

    @property
    def loras(self) -> Locator:
        """The rows of the files."""
        return self.page.locator(".lora")

    @property
    def press(self) -> Locator:
        """The one primary button."""
        return self.page.locator("#press")

    def drawer(self, place: int) -> Locator:
        """The drawer of a row, opened."""
        row = self.page.locator(".slot").nth(place)
        self.reach(row)
        if "opened" not in str(row.get_attribute("class")).split():
            row.get_by_role("button", name="More about this LoRA").click()
            expect(row).to_contain_class("opened")
        return self.page.locator("#drawer")

    @property
    def running(self) -> Locator:
        """What is going on, while a job runs."""
        return self.page.locator("#status .running")

    @property
    def pictures(self) -> Locator:
        return self.page.locator("#pictures img")

    def address(self, picture: Locator) -> str:
        """Where a picture is served."""
        return str(picture.evaluate("picture => picture.src"))

    def merge(self, patience: float = PATIENCE) -> None:
        """Press the button, and wait until all is done."""
        self.press.click()
        expect(self.running).to_be_visible()
        self.hear("done", patience=patience)

    def hear(self, kind: str, words: str = "", patience: float = PATIENCE) -> None:
        """Wait for the last word on a job: of this kind (done, stopped or failed), with these."""
        expect(self.page.locator(f"#status .{kind}")).to_contain_text(words, timeout=patience)

    def problems(self) -> str:
        """What was said of files that were not taken."""
        said = self.page.locator("#problems .problems")
        expect(said).to_be_visible()
        return said.inner_text()

    def fits(self) -> bool:
        """True if nothing has to be scrolled sideways."""
        return bool(self.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"))

    def keep(self, name: str) -> Path:
        """A picture of the whole page, for human eyes."""
        ARTIFACTS.mkdir(exist_ok=True)
        path = ARTIFACTS / f"{name}.png"
        self.page.screenshot(path=path, full_page=True)
        return path

    def _hear(self, message: object) -> None:
        if getattr(message, "type", "") == "error":
            self.complaints.append(f"console: {getattr(message, 'text', '')}")

    def _see(self, address: str) -> None:
        if not address.startswith(("http://127.0.0.1:", "data:", "blob:")):
            self.complaints.append(f"left the machine: {address}")


Arrive = Callable[..., Visitor]  # opens the page as a new visitor


@contextmanager
def chromium() -> Iterator[Browser]:
    """The browser that the machine has."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(QUIET))
        yield browser
        browser.close()

"""The picture in the README: ``python -m tests.app.readme_picture`` clicks the first example.

It needs the browser of the tests, and some minutes for all the pictures.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from PIL import Image

from app.examples import examples
from merging.io.assets import ASSETS
from tests.app.browsing import DESKTOP, Visitor, chromium
from tests.app.page_speed import started, wait_for

OUT = ASSETS / "readme" / "studio.png"
PART = {"x": 0, "y": 0, "width": DESKTOP["width"], "height": 987}  # as far as the pictures reach
SHARP = 1.5  # pixels of the picture for one of the page
PATIENCE = 3_600_000  # ms
COLOURS = 256  # a third of the bytes, and nothing that the eye sees


def main(out: Path = OUT) -> None:
    """Draw the example and write what the page then shows."""
    with chromium() as browser, tempfile.TemporaryDirectory() as folder, started(folder) as url:
        wait_for(url)
        page = browser.new_page(viewport=DESKTOP, device_scale_factor=SHARP)
        visitor = Visitor(page).open(url)
        page.get_by_role("button", name=examples()[0].title).click()
        visitor.hear("done", patience=PATIENCE)
        page.locator("#dock").evaluate("dock => dock.style.display = 'none'")
        page.screenshot(path=out, full_page=True, clip=PART)
    Image.open(out).convert("RGB").quantize(COLOURS).save(out, optimize=True)


if __name__ == "__main__":
    main()

"""HTML, Markdown and scripts in every text of a file, seen in a real browser."""

from __future__ import annotations

import json
import struct
from pathlib import Path

from playwright.sync_api import Page, expect

from tests.app.browsing import DESKTOP, Visitor, chromium
from tests.attack.outcome import Outcome
from tests.attack.running import PAIR, Running

SCRIPT = "window.broken = 1"
HOSTILE = (
    f'<img src=x onerror="{SCRIPT}"><script>{SCRIPT}</script>'
    f"<svg onload='{SCRIPT}'></svg>[x](javascript:{SCRIPT})![y](https://example.org/y.png)"
    "<iframe src=https://example.org></iframe>${window.broken=1}{{window.broken=1}}"
)
FIELDS = (
    "ss_output_name", "ss_base_model_version", "ss_training_comment", "ss_tag_frequency",
    "ss_dataset_dirs", "modelspec.title", "modelspec.author", "modelspec.license",
    "modelspec.description", "modelspec.trigger_phrase", "modelspec.thumbnail", "modelspec.tags",
)  # fmt: skip


def hostile_file(folder: Path) -> Path:
    """A bundled LoRA with the text in its name and in every field of its header."""
    whole = PAIR[0].read_bytes()
    (length,) = struct.unpack("<Q", whole[:8])
    header = json.loads(whole[8 : 8 + length])
    tags = json.dumps({HOSTILE: {HOSTILE: 3}})
    header["__metadata__"] = dict.fromkeys(FIELDS, HOSTILE) | {"ss_tag_frequency": tags}
    text = json.dumps(header).encode()
    path = folder / "a<img src=x onerror='window.broken=1'>.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text + whole[8 + length :])
    return path


def attack(app: Running, folder: Path) -> Outcome:
    """Add the file, look at its card and its conflicts; then try to run a script by the page."""
    outcome = Outcome("HTML and Markdown in every field, in chromium")
    with chromium() as browser:
        page = browser.new_context(viewport=DESKTOP).new_page()
        visitor = Visitor(page).open(app.url)
        visitor.add(hostile_file(folder), PAIR[1])
        expect(visitor.loras).to_have_count(2)
        visitor.drawer(0).get_by_text("All facts").click()
        page.wait_for_timeout(2000)
        outcome.expect(not broken(page), "a script of a file ran")
        page.evaluate(f"document.body.insertAdjacentHTML('beforeend', `{HOSTILE.split('$')[0]}`)")
        page.wait_for_timeout(500)
        outcome.expect(not broken(page), "the policy let an inline script run")
        left = [text for text in visitor.complaints if text.startswith("left the machine")]
        outcome.expect(not left, f"a request left: {left}")
    return outcome


def broken(page: Page) -> bool:
    return bool(page.evaluate("window.broken === 1"))

"""What axe finds on a page as it stands, light and dark, wide and narrow.

axe-core comes inside its PyPI package and runs in the page itself: no request leaves the machine.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Literal

from axe_playwright_python.base import AXE_SCRIPT as AXE
from playwright.sync_api import Page

from tests.app.browsing import DESKTOP, PHONE, Visitor

# Colours half-way between two themes are nobody's.
STILL = "*, ::before, ::after { transition: none !important; animation: none !important; }"
# A theme is colours alone: in the second one the rules about them are looked at again.
THEMES: dict[Literal["light", "dark"], Sequence[str]] = {
    "light": (),
    "dark": ("color-contrast", "link-in-text-block"),
}
RUN = "([within, options]) => axe.run(within, options).then(answer => answer.violations)"
# Gradio's own, which no argument and no theme of ours reaches: rule, element, and why it stays.
GRADIOS = (
    (
        "image-redundant-alt",
        r'alt="(Settings|logo)"',
        "the icons of the footer repeat the words beside them; it has no setting for that",
    ),
    (
        "image-redundant-alt",
        r'<img src="http://127\.0\.0\.1',
        "a gallery takes a picture's caption for its text too; without either it would be nameless",
    ),
    (
        "nested-interactive",
        r'aria-label="common\.upload"',
        "the button that adds to a list of files is wrapped around its own input",
    ),
)


def accessible(visitor: Visitor, within: str = "") -> None:
    """No violation but Gradio's own in this part of the page, or on all of it, in any theme."""
    page = visitor.page
    before, found = page.viewport_size, []
    page.add_style_tag(content=STILL)
    page.evaluate(AXE)
    for theme, rules in THEMES.items():
        page.emulate_media(color_scheme=theme)
        for viewport in (DESKTOP, PHONE):
            page.set_viewport_size(viewport)
            found += [
                f"{theme} {viewport['width']} px: {each}"
                for each in _violations(page, within, rules)
            ]
    page.emulate_media(color_scheme="light")
    if before:
        page.set_viewport_size({"width": before["width"], "height": before["height"]})
    assert not found, "\n".join(found)


def _violations(page: Page, within: str, rules: Sequence[str]) -> list[str]:
    options = {"resultTypes": ["violations"]} | ({"runOnly": rules} if rules else {})
    answer: list[dict[str, Any]] = page.evaluate(RUN, [within or "html", options])
    return [
        f"{rule['id']} at {node['target'][0]}: {node['html'][:160]}: {_why(node)}"
        for rule in answer
        for node in rule["nodes"]
        if not _gradios(rule["id"], node["html"])
    ]


def _gradios(rule: str, element: str) -> bool:
    return any(rule == own and re.search(looks, element) for own, looks, _ in GRADIOS)


def _why(node: dict[str, Any]) -> str:
    """axe's own words on it."""
    checks = [*node["any"], *node["all"], *node["none"]]
    return "; ".join(check["message"] for check in checks)[:200]

"""Why the page's policy allows ``eval``: without it, Gradio's HTML components do not appear."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser, Route

from tests.app.browsing import DESKTOP

EVAL = " 'unsafe-eval'"


@pytest.mark.parametrize("allowed", [True, False])
def test_gradio_s_components_need_eval_and_no_inline_script_runs(
    browser: Browser, url: str, allowed: bool
) -> None:
    """Should the second case fail one day, ``'unsafe-eval'`` can go from the policy."""
    page = browser.new_context(viewport=DESKTOP).new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))

    def serve(route: Route) -> None:
        answer = route.fetch()
        policy = answer.headers["content-security-policy"]
        assert EVAL in policy
        changed = policy if allowed else policy.replace(EVAL, "")
        route.fulfill(
            response=answer, headers=answer.headers | {"content-security-policy": changed}
        )

    page.route(url, serve)
    page.goto(url)
    if allowed:
        page.locator("#upload").wait_for(state="attached")
    page.wait_for_timeout(5000)  # without eval the page may never be whole
    refused = [text for text in complaints if "unsafe-eval" in text]
    assert bool(refused) is not allowed, complaints
    page.evaluate("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=broken=1>')")
    page.wait_for_timeout(300)
    assert page.evaluate("typeof broken") == "undefined"
    page.context.close()

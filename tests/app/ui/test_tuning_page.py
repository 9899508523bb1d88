"""Strengths are searched for on the page, and taken over into the rows."""

from __future__ import annotations

from pathlib import Path

import pytest
from gradio_client import Client, handle_file
from PIL import Image
from playwright.sync_api import expect

from tests.app.accessibility import accessible
from tests.app.browsing import Arrive


def test_strengths_are_found_and_used(arrive: Arrive, pair: tuple[Path, Path]) -> None:
    """Two LoRAs at 1 are too much for their sum: the search finds less, and says it is better."""
    visitor = arrive()
    page, section = visitor.page, visitor.page.locator("#tuning")
    visitor.add(*pair)
    expect(visitor.loras).to_have_count(2)
    visitor.quick()
    page.get_by_label("As loaded together (sum)").check()
    visitor.fold("Find strengths")
    visitor.number("Merges to try", 3)
    find = page.locator("#tune")
    find.click()
    expect(visitor.running).to_contain_text("best so far")
    expect(find).to_be_disabled()
    page.get_by_role("button", name="Stop").click()
    visitor.hear("stopped")
    find.click()
    visitor.hear("done", "Find strengths")
    expect(section.locator("#tuned .note")).to_contain_text(
        "are better than the strengths as given"
    )
    kinds = section.locator("tbody tr")
    expect(kinds).to_have_count(3)
    picture = section.locator("#tuned img")
    expect(picture).to_have_js_property("complete", True)
    assert picture.evaluate("it => it.naturalWidth") > 300
    accessible(visitor, "#tuning")
    visitor.keep("tuning")

    page.get_by_role("button", name="Use these strengths").click()
    found = [float(cell) for cell in kinds.nth(2).locator("td").all_inner_texts()[2:]]
    strengths = page.get_by_label("number input for Strength")
    expect(strengths.first).not_to_have_value("1")
    typed = [float(strengths.nth(place).input_value()) for place in (0, 1)]
    assert typed == pytest.approx(found, abs=5e-4)
    expect(visitor.press).to_contain_text("Merge and draw")
    page.get_by_role("button", name="The search as a command").click()
    expect(section.locator(".cm-content")).to_contain_text("python -m merging tune")


def test_the_endpoint_finds_the_same(url: str, pair: tuple[Path, Path], tmp_path: Path) -> None:
    client = Client(url, verbose=False, download_files=tmp_path, analytics_enabled=False)
    small = {"method": "sum", "samples": 2, "targets": "cross-attention", "budget": 1}
    files = [handle_file(path) for path in pair]
    picture, found = client.predict(files=files, **small, api_name="/tune")
    client.close()
    assert Image.open(picture).width > 300
    assert found["trials"] == 3 and list(found["best"]) == ["as given", "random", "tuned"]
    assert "held-out" in found["verdict"]
    kinds = [best["strengths"] for best in found["best"].values()]
    assert found["strengths"] in kinds and kinds[0] == [1.0, 1.0]
    assert found["unet"] == found["text_encoder"] == [None, None]

"""The first two steps in a real browser: cards, strengths, a pasted prompt, library, options."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from playwright.sync_api import Locator, Page, expect
from safetensors.torch import save_file

from merging import formats
from merging.io.files import read_recipe
from tests.app.accessibility import accessible
from tests.app.browsing import PHONE, Arrive, Visitor

PASTED = "a cat, a pizza <lora:SKS-cat:0.5:lbw=MIDD> <lora:vxz-pizza:0.4:0.9> <lora:mug:1>"


def names(page: Page) -> Locator:
    """The titles of the cards, in their order."""
    return page.locator(".lora strong")


def recipe(visitor: Visitor) -> dict[str, Any]:
    """The recipe in the file that the page offers after a merge."""
    button = visitor.page.get_by_text("Download demo LoRA")
    visitor.reach(button)
    with visitor.page.expect_download() as download:
        button.click()
    found = read_recipe(formats.read(Path(download.value.path()), name="merged").metadata)
    assert found
    return found


def test_a_pasted_prompt_reaches_the_recipe(
    arrive: Arrive, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    """On a phone in the dark; strengths of parts and blocks are merged as the prompt says.

    A textual inversion stands among the LoRAs, under a word of the visitor's own.
    """
    visitor = arrive(PHONE, "?__theme=dark")
    page = visitor.page
    word = tmp_path / "my word.safetensors"
    save_file({"emb_params": torch.ones(2, 128)}, word)
    visitor.add(word, *pair)
    expect(visitor.loras).to_have_count(3)
    visitor.drawer(0)
    called = page.get_by_label("Its word in prompts")
    expect(called).to_have_value("my word")
    called.fill("zz")
    called.press("Tab")
    page.get_by_role("button", name="Paste an A1111 prompt").click()
    page.get_by_label("Prompt with <lora").fill(PASTED)
    page.get_by_role("button", name="Fill in strengths").click()
    expect(page.locator(".messages")).to_contain_text(
        "Not loaded, add the file and paste again: mug"
    )
    expect(visitor.prompt).to_have_value("a cat, a pizza")
    expect(visitor.drawer(1).get_by_label("Block weights")).to_have_value("MIDD")
    expect(visitor.drawer(2).get_by_label("number input for Text encoder")).to_have_value("0.4")
    expect(page.locator(".conflicts")).to_contain_text("loading both may do as well")
    assert visitor.fits()
    visitor.keep("concepts-phone-dark")
    visitor.method("sum")
    visitor.steps(1)
    visitor.one()
    visitor.merge()
    made = recipe(visitor)
    expect(page.locator("#words")).to_contain_text("zz")
    cat, pizza = made["sources"]
    assert [(each["word"], each["name"]) for each in made["embeddings"]] == [("zz", "my word")]
    assert (cat["strength"], cat["blocks"]["IN04"], cat["blocks"]["M00"]) == (0.5, 0, 1)
    assert pizza["strength"] == 0.9
    assert pizza["strength"] * pizza["text_encoder"] == pytest.approx(0.4)
    assert visitor.fits()


def test_cards_move_leave_the_merge_and_have_prompts_of_their_own(
    arrive: Arrive, pair: tuple[Path, Path]
) -> None:
    """With the keyboard alone, once the files are there."""
    visitor = arrive()
    page = visitor.page
    visitor.add(*pair)
    expect(visitor.loras).to_have_count(2)
    expect(page.locator("#conflicts")).to_contain_text("loading both may do as well")
    more = page.get_by_role("button", name="More about this LoRA")
    more.first.press("Enter")
    close = page.locator("#drawer").get_by_role("button", name="Close")
    expect(close).to_be_visible()
    assert order_seen(page) == ["sks-cat", "drawer", "vxz-pizza"]
    page.keyboard.press("Tab")
    expect(close).to_be_focused()
    page.get_by_role("button", name="Down").press("Enter")
    expect(names(page)).to_have_text(["vxz-pizza", "sks-cat"])
    drawer = page.locator("#drawer")
    expect(drawer).to_contain_text("sks-cat")
    prompts = drawer.get_by_label("Calibration prompts")
    drawer.get_by_role("button", name="Write the templates out").press("Enter")
    expect(prompts).to_have_value(lines_with("sks cat"))
    prompts.fill("a sks cat on a mat\n\na small sks cat")
    more.first.press("Enter")
    expect(drawer).to_contain_text("vxz-pizza")
    expect(prompts).to_have_value("")
    drawer.get_by_role("button", name="Close").press("Enter")
    expect(drawer).to_be_hidden()
    more.nth(1).press("Enter")
    expect(prompts).to_have_value("a sks cat on a mat\na small sks cat")
    use = drawer.get_by_label("Use", exact=True)
    use.press("Space")
    expect(page.locator(".conflicts")).to_be_hidden()
    expect(visitor.press).to_have_text("Add another LoRA")
    use.press("Space")
    expect(page.locator(".conflicts")).to_be_visible()
    visitor.keep("concepts")
    visitor.quick()
    visitor.one()
    page.get_by_role("button", name="Paste an A1111 prompt").press("Enter")
    page.get_by_role("link", name="Base model").press("Enter")
    of_the_base = page.locator("fieldset", has_text="Precision of the base model")
    of_the_base.get_by_label("fp32").check()
    accessible(visitor)
    expect(visitor.press).to_contain_text("Merge and draw")
    page.keyboard.press("Control+Enter")
    visitor.hear("done")
    visitor.fold("Other files")
    visitor.fold("Error of each layer")
    expect(page.locator("#chart svg")).to_be_visible()
    visitor.keep("merge")
    accessible(visitor, "#take")
    saved = recipe(visitor)
    pizza, cat = saved["sources"]
    assert saved["base_precision"] == "fp32"
    assert pizza["trigger"] == "vxz pizza"
    assert cat["prompts"] == ["a sks cat on a mat", "a small sks cat"]


def order_seen(page: Page) -> list[str]:
    """Rows and drawer from top to bottom."""
    seen = """all => all.filter(it => it.offsetParent)
      .sort((one, other) => one.getBoundingClientRect().top - other.getBoundingClientRect().top)
      .map(it => it.id || it.querySelector("strong").innerText)"""
    found: list[str] = page.locator(".slot, #drawer").evaluate_all(seen)
    return found


def lines_with(words: str) -> re.Pattern[str]:
    """Lines each of which says the words."""
    return re.compile(rf"^([^\n]*{words}[^\n]*\n?)+$")


def test_an_unknown_preset_is_reported(arrive: Arrive, pair: tuple[Path, Path]) -> None:
    visitor = arrive()
    page = visitor.page
    visitor.add(*pair)
    expect(visitor.loras).to_have_count(2)
    visitor.drawer(0)
    blocks = page.get_by_label("Block weights")
    blocks.fill("MIDDLE")
    blocks.press("Enter")
    expect(page.locator("#conflicts .problems")).to_contain_text("“MIDDLE” are neither a preset")
    visitor.press.click()
    visitor.hear("failed", "neither a preset")


def test_the_library_finds_by_scene_what_was_added(arrive: Arrive, pair: tuple[Path, Path]) -> None:
    visitor = arrive()
    page = visitor.page
    visitor.add(*pair)
    expect(visitor.loras).to_have_count(2)
    visitor.drawer(0).get_by_role("button", name="Remove").click()
    expect(visitor.loras).to_have_count(1)
    page.get_by_role("button", name="Your library").click()
    page.get_by_label("Search").fill("a cat on a sofa")
    found = page.locator("#found label")
    expect(found).to_have_count(1)
    expect(found).to_contain_text("sks-cat · sks cat")
    page.get_by_label("Search").fill("")
    expect(found).to_have_count(2)
    visitor.prompt.fill("a photo of a cat beside a sofa")
    page.get_by_role("button", name="Suggest for the prompt").click()
    expect(page.locator("#found")).to_contain_text("These fit the prompt")
    expect(found).to_have_count(1)
    expect(found).to_contain_text(re.compile(r"sks-cat · sks cat · .* · fits 9\d%"))
    found.click()
    visitor.keep("library")
    accessible(visitor, "#library")
    page.locator("#library").get_by_role("button", name="Add").click()
    expect(visitor.loras).to_have_count(2)
    expect(names(page)).to_have_text(["vxz-pizza", "sks-cat"])
    found.click()
    page.locator("#library").get_by_role("button", name="Delete").click()
    expect(found).to_have_text(re.compile("vxz-pizza"))

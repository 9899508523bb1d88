"""Whole walks through the page: by keyboard alone, with files for SD 1.5, and with sidecars."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from playwright.sync_api import Locator, expect

from merging import formats
from merging.diffusion.random_sd15 import random_sd15
from tests.app.accessibility import accessible
from tests.app.browsing import PATIENCE, PHONE, Arrive, Visitor
from tests.app.conftest import for_sd15

# The tab is looked at by nobody, and every notification is written down as the browser shows it.
AWAY = """() => {
  Object.defineProperty(document, "hidden", { get: () => true });
  const Shown = Notification;
  window.shown = [];
  window.Notification = class extends Shown {
    constructor(title, options) {
      super(title, options);
      this.onshow = () => window.shown.push(`${title}: ${options.body}`);
    }
    static requestPermission = () => Shown.requestPermission();
    static get permission() { return Shown.permission; }
  };
}"""
MOST_TABS = 80


def tab_to(visitor: Visitor, target: Locator) -> None:
    """Press Tab until it has the focus."""
    for _ in range(MOST_TABS):
        visitor.page.keyboard.press("Tab")
        if target.evaluate("it => it === document.activeElement"):
            return
    raise AssertionError("the Tab key does not reach it")


def test_the_keyboard_alone_leads_from_an_example_to_a_merge(
    arrive: Arrive, cheaper: Callable[..., None]
) -> None:
    """A job that was begun and stopped, another method, Ctrl+Enter, and a word when it is done."""
    visitor = arrive()
    page = visitor.page
    page.context.grant_permissions(["notifications"])
    page.evaluate(AWAY)
    tab_to(visitor, page.get_by_role("button", name="cat + pizza"))
    page.keyboard.press("Enter")
    expect(visitor.running).to_contain_text("Drawing")
    notify = page.get_by_role("button", name="Notify me when done")
    tab_to(visitor, notify)
    page.keyboard.press("Enter")
    expect(notify).to_be_hidden()
    tab_to(visitor, page.get_by_role("button", name="Stop"))
    page.keyboard.press("Enter")
    visitor.hear("stopped")
    expect(visitor.press).to_be_enabled()

    page.evaluate("document.activeElement.blur()")
    tab_to(visitor, page.locator("#method input:checked"))
    page.keyboard.press("ArrowDown")
    expect(page.locator("#method input[value=tsv]")).to_be_checked()
    tab_to(visitor, visitor.prompt)
    page.keyboard.press("Control+A")
    page.keyboard.type("a photo of a sks cat")
    warning = page.locator("#chips button", has_text="vxz pizza is not in the prompt")
    tab_to(visitor, warning)
    page.keyboard.press("Enter")
    expect(visitor.prompt).to_have_value("a photo of a sks cat, vxz pizza")
    expect(page.locator("#chips .said")).to_have_count(2)
    cheaper()
    page.keyboard.press("Control+Enter")
    expect(visitor.press).to_have_text("Working…")
    visitor.hear("done")
    expect(visitor.press).to_contain_text("Draw again · about ")
    expect(page).to_have_title("✓ IterIS Studio")
    page.wait_for_function("window.shown.some(text => text.startsWith('IterIS Studio: Done'))")
    accessible(visitor)


def test_a_sidecar_names_a_lora_and_a_typed_trigger_is_followed(
    arrive: Arrive, pair: tuple[Path, Path], bad_files: dict[str, Path], tmp_path: Path
) -> None:
    """Dropped together with its LoRA, on a phone; the chips and the prompts follow."""
    visitor = arrive(PHONE)
    page = visitor.page
    about = tmp_path / "silent.civitai.info"
    words = {"trainedWords": ["abc cat"], "baseModel": "Other", "model": {"name": "A cat"}}
    about.write_text(json.dumps(words), encoding="utf-8")
    Image.new("RGB", (64, 64), "tan").save(tmp_path / "silent.preview.png")
    visitor.add(bad_files["silent"], pair[1], about, tmp_path / "silent.preview.png")
    expect(visitor.loras).to_have_count(2)
    expect(visitor.loras.first.locator(".chip")).to_have_text("abc cat")
    expect(visitor.loras.first.locator("img")).to_be_visible()
    expect(page.locator("#problems")).to_be_hidden()
    visitor.keep("sidecar-phone")
    trigger = visitor.drawer(0).get_by_role("combobox", name="Trigger words")
    trigger.fill("old cat")
    trigger.press("Enter")
    expect(visitor.loras.first.locator(".chip")).to_have_text("old cat")
    expect(page.locator("#chips .said").first).to_contain_text("old cat")
    page.locator("#tabs").get_by_role("button", name="Pictures").click()
    expect(visitor.loras.first).to_be_hidden()
    expect(visitor.prompt).to_be_visible()
    assert visitor.prompt.input_value().count("old cat") == 2
    expect(visitor.press).to_be_in_viewport()
    assert visitor.fits()
    accessible(visitor)


@pytest.fixture
def sd15_folder(tmp_path: Path) -> Path:
    """The architecture of SD 1.5 with random weights, in diffusers layout."""
    folder = tmp_path / "my-sd15"
    random_sd15(side=8, device="cpu").pipeline.to(dtype=torch.float16).save_pretrained(folder)
    return folder


@pytest.mark.slow(80)
def test_two_files_for_sd15_need_no_network_where_a_folder_has_the_base(
    arrive: Arrive, bad_files: dict[str, Path], sd15_folder: Path, tmp_path: Path
) -> None:
    """The base by itself; a job that fails without a network, as axe sees it; then the folder."""
    bird = tmp_path / "bird.safetensors"
    formats.write_kohya(for_sd15("xyz bird", seed=1), bird, torch.float16)
    visitor = arrive()
    page = visitor.page
    visitor.add(bad_files["sd15"], bird)
    expect(visitor.loras).to_have_count(2)
    expect(page.locator("#header .base-link")).to_have_text("Stable Diffusion 1.5")
    expect(page.locator("#problems")).to_contain_text("one download of about 5.5 GB")
    expect(page.locator(".lora .bad")).to_have_count(0)
    visitor.press.click()
    visitor.hear("failed", "Stable Diffusion 1.5 is not on this machine and could not be")
    assert visitor.fits()
    accessible(visitor)
    page.get_by_role("link", name="Base model").click()
    page.locator("#base").get_by_label("Another folder").check()
    place = page.get_by_label("Folder in diffusers layout")
    place.fill(str(sd15_folder))
    place.press("Tab")
    expect(page.locator("#header .base-link")).to_have_text("my-sd15")
    page.keyboard.press("Escape")
    visitor.method("sum")
    visitor.steps(1)
    visitor.one()
    visitor.merge(patience=4 * PATIENCE)
    expect(visitor.pictures).to_have_count(5)
    expect(page.locator("#summary")).to_contain_text("ComfyUI")
    expect(page.locator("#verdict")).to_be_visible()
    visitor.keep("sd15-folder")

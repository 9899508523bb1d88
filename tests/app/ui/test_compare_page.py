"""The Compare section in a real browser: grid, slider, heat maps, and settings from a picture."""

from __future__ import annotations

import re
from pathlib import Path

from PIL import Image
from playwright.sync_api import Locator, expect

from merging.io.png import read_origin
from tests.app.accessibility import accessible
from tests.app.browsing import PHONE, Arrive, Visitor

SCORED = r" · text-align \d\.\d\d · sks cat -?\d\.\d\d"


def summed(visitor: Visitor, pair: tuple[Path, Path]) -> None:
    """Both LoRAs merged by the fastest method, few steps a picture."""
    if visitor.loras.count() == 0:
        visitor.add(*pair)
    expect(visitor.loras).to_have_count(2)
    visitor.method("sum")
    visitor.steps(2)
    visitor.one()
    visitor.merge()
    expect(visitor.pictures).to_have_count(5)


def test_each_base_brings_the_guidance_it_draws_best_with(
    arrive: Arrive, pair: tuple[Path, Path]
) -> None:
    visitor = arrive()
    page = visitor.page
    visitor.add(pair[0])
    visitor.fold("Picture settings")
    guidance = page.get_by_label("number input for Guidance")
    expect(guidance).to_have_value("3")
    page.get_by_role("link", name="Base model").click()
    for base, value in (("Stable Diffusion 1.5", "7"), ("Embedded mini model", "3")):
        page.locator("#base").get_by_label(base).check()
        expect(guidance).to_have_value(value)
        expect(page.locator("#header .base-link")).to_have_text(base)


def test_a_comparison_is_looked_at_in_three_ways(
    arrive: Arrive, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    visitor = arrive()
    page = visitor.page
    summed(visitor, pair)
    visitor.number("Pictures", 2)
    visitor.compose("Gated, no merge")
    page.get_by_label("Each LoRA alone").uncheck()
    page.get_by_role("button", name="Random seed").click()
    expect(page.get_by_label("Seed", exact=True)).not_to_have_value("0")
    page.get_by_label("Negative prompt", exact=True).fill("a photo of a dog")
    page.get_by_label("Size").fill("160x128")
    seed = int(page.get_by_label("Seed", exact=True).input_value())
    photo = tmp_path / "photo.jpg"
    Image.new("RGB", (300, 200), "tan").save(photo)
    drawer = visitor.drawer(0)
    visitor.fold("Scores from")
    drawer.locator(".references input[type=file]").set_input_files(photo)
    expect(drawer.locator(".references")).to_contain_text("photo")
    drawer.get_by_role("button", name="Close").click()
    page.get_by_role("button", name="Draw again").click()
    expect(visitor.pictures).to_have_count(8)
    visitor.hear("done")
    captions = [str(image.get_attribute("alt")) for image in visitor.pictures.all()]
    large, small = ("Loaded together", "Merged (Weighted sum)"), ("Base model", "Gated, no merge")
    plain = [f"{title} · seed {s}" for s in (seed, seed + 1) for title in (*large, *small)]
    for caption, start in zip(sorted(captions), sorted(plain), strict=True):
        assert re.fullmatch(re.escape(start) + SCORED, caption), caption
    expect(page.locator("#scores")).to_contain_text("Compare the columns with each other")
    visitor.keep("scores")

    accessible(visitor, "#stage")

    visitor.fold("Look closer")
    page.get_by_role("tab", name="Slider").click()
    divide = page.locator("#slider input[type=range]")
    divide.press("ArrowLeft")
    expect(page.locator("#slider .pair")).to_have_attribute("style", "--cut: 49%;")
    both = page.locator("#slider img")
    before = [image.get_attribute("src") for image in both.all()]
    page.get_by_label("Left").click()
    page.get_by_role("option", name=captions[-1]).click()
    expect(both.first).not_to_have_attribute("src", str(before[0]))
    visitor.keep("slider")
    accessible(visitor, "#views")

    page.get_by_role("tab", name="Heat maps").click()
    maps = page.locator("#maps .thumbnail-item img")
    expect(maps).to_have_count(3)
    alts = [image.get_attribute("alt") for image in maps.all()]
    assert alts == ["the picture", "sks cat", "vxz pizza"]
    visitor.keep("heat-maps")
    accessible(visitor, "#views")
    page.get_by_role("tab", name="Command").click()
    accessible(visitor, "#views")
    page.get_by_role("tab", name="Heat maps").click()

    the_settings_are_inside(visitor, maps.first, tmp_path / "picture.png", seed + 1)


def the_settings_are_inside(visitor: Visitor, picture: Locator, saved: Path, seed: int) -> None:
    """A picture from the page carries its seed, its prompts and the recipe of the merge."""
    saved.write_bytes(visitor.page.request.get(visitor.address(picture)).body())
    origin, recipe = read_origin(saved)
    assert (origin.seed, origin.negative) == (seed, "a photo of a dog")
    assert recipe is not None and recipe["method"] == "sum"
    assert Image.open(saved).size == (160, 128)


def test_a_picture_fills_the_form(arrive: Arrive, pair: tuple[Path, Path], tmp_path: Path) -> None:
    visitor = arrive(PHONE)
    page = visitor.page
    summed(visitor, pair)
    saved = tmp_path / "picture.png"
    merged = page.locator("#pictures").get_by_alt_text("Merged (Weighted sum)")
    saved.write_bytes(page.request.get(visitor.address(merged)).body())

    later = arrive(PHONE, "?__theme=dark")
    later.add(saved)
    said = later.page.locator("#problems")
    expect(said).to_contain_text("add sks-cat, vxz-pizza and merge")
    later.add(*pair)
    expect(later.loras).to_have_count(2)
    expect(later.page.locator("#conflicts")).to_be_visible()
    later.fold("Picture settings")
    prompt = "a photo of a sks cat and a vxz pizza on a green background"
    expect(later.prompt).to_have_value(prompt)
    expect(later.page.get_by_label("number input for Steps")).to_have_value("2")
    expect(later.page.locator("#method input[value=sum]")).to_be_checked()
    assert later.fits()
    later.keep("loaded")
    mute = tmp_path / "mute.png"
    mute.write_bytes(b"no picture")
    later.add(mute)
    expect(said).to_contain_text("mute.png is no PNG picture")


def test_files_are_made_to_measure_and_the_token_is_forgotten(
    arrive: Arrive, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    """A reference that is no picture costs the scores alone."""
    visitor = arrive()
    page = visitor.page
    letter = tmp_path / "letter.png"
    letter.write_text("dear friend")
    visitor.add(*pair)
    expect(visitor.loras).to_have_count(2)
    drawer = visitor.drawer(1)
    visitor.fold("Scores from")
    drawer.locator(".references input[type=file]").set_input_files(letter)
    expect(drawer.locator(".references")).to_contain_text("letter")
    summed(visitor, pair)
    expect(page.locator("#scores")).to_contain_text("No scores: letter.png is no picture")
    visitor.fold("Other files")
    visitor.fold("Smaller, other precision")
    expect(page.locator("#curve svg")).to_be_visible()
    page.get_by_label("Rank of the file").click()
    page.get_by_role("option", name="8: keeps").click()
    page.get_by_label("full: all but diffusers").check()
    page.get_by_role("button", name="Make the files").click()
    expect(page.locator("#made")).to_contain_text("_r8_full.safetensors, read back")
    with page.expect_download() as download:
        page.get_by_text("Zip of all").click()
    assert download.value.suggested_filename == "sum_sks-cat+vxz-pizza_r8_full.zip"
    page.get_by_role("button", name="Push to the Hugging Face Hub").click()
    expect(page.get_by_label("Token")).to_be_visible()
    page.wait_for_timeout(500)  # a fold that opens gives its fields their first values a bit later
    page.get_by_label("Repository").fill("me/it")
    page.get_by_label("Token").fill("hf_thisIsNobodysToken")
    page.locator("#push").click()
    expect(page.locator("#pushed")).to_contain_text("the Hub could not be reached")
    expect(page.get_by_label("Token")).to_have_value("")
    visitor.keep("taken")
    for fold in ("Recipe (it is also", "The merge as a command"):
        page.get_by_role("button", name=fold).click()
    converted = "_r8_full.safetensors --format full --dtype fp16 --rank 8"
    expect(page.locator("#take .cm-content").last).to_contain_text(converted)
    accessible(visitor, "#take")

"""The page in a real browser, over the real engine."""

from __future__ import annotations

import re
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import quote
from urllib.request import urlopen

import pytest
from playwright.sync_api import expect

from app.examples import examples
from app.schemas.draw import SEEDS
from app.service import Studio
from merging import formats
from merging.batch import MATRIX
from merging.bundled import LORAS, shelf_pairs
from merging.diffusion.base import Base
from merging.diffusion.calibrate import activations
from merging.engine import merge
from merging.export.save import RecipeBase, save
from merging.methods import METHODS
from merging.request import MergeRequest, Source
from tests.app.accessibility import accessible
from tests.app.browsing import PHONE, SMALL, Arrive, Visitor


def test_two_files_become_one_adapter_and_pictures(
    arrive: Arrive, base: Base, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    visitor = arrive()
    page = visitor.page
    visitor.add(*pair)
    expect(visitor.loras).to_have_count(2)
    expect(visitor.loras.first).to_contain_text("sks cat")
    visitor.quick()
    visitor.number("Strength", 0.9)
    both = "a photo of a sks cat and a vxz pizza on a green background"
    alone = [f"a photo of a {what} on a green background" for what in ("sks cat", "vxz pizza")]
    expect(visitor.prompt).to_have_value("\n".join([both, *alone]))
    visitor.one()
    visitor.merge()
    expect(visitor.pictures).to_have_count(5)
    captions = {image.get_attribute("alt") for image in visitor.pictures.all()}
    assert {"Base model", "sks-cat alone", "Loaded together", "Merged (IterIS)"} < captions
    expect(visitor.prompt).to_have_value(both)
    page.get_by_role("button", name="Suggest a prompt").click()
    expect(visitor.prompt).to_have_value("\n".join([both, *alone]))
    page.get_by_role("button", name="Suggest a prompt").click()
    other = "a photo of a vxz pizza and a sks cat on a green background"
    expect(visitor.prompt).to_have_value("\n".join([other, *alone]))
    with page.expect_download() as download:
        page.get_by_text("Download demo LoRA").click()
    assert download.value.suggested_filename == "iteris_sks-cat+vxz-pizza.safetensors"
    visitor.keep("merged")

    sources = tuple(
        Source(adapter, strength, adapter.trigger)
        for adapter, strength in zip(map(formats.read, pair), (0.9, 1.0), strict=True)
    )
    request = MergeRequest(sources, samples=2, targets="cross-attention")
    result = merge(request, activations(base))
    own = tmp_path / download.value.suggested_filename
    save(result, own, merged_on=RecipeBase("mini", base.fingerprint))
    assert Path(download.value.path()).read_bytes() == own.read_bytes()


def test_pictures_that_come_in_a_burst_all_stay(arrive: Arrive, pair: tuple[Path, Path]) -> None:
    """One step a picture and no calibration: updates follow one another closely.

    Only a busy machine loses some of them; test_handlers.py holds the remedy on any.
    """
    visitor = arrive()
    visitor.add(*pair)
    expect(visitor.loras).to_have_count(2)
    visitor.steps(1)
    visitor.one()
    for name in ("sum", "average"):
        visitor.method(name)
        expect(visitor.press).to_contain_text("Merge and draw")
        visitor.merge()
        expect(visitor.page.locator("#summary")).to_contain_text(METHODS[name].title)
        expect(visitor.pictures).to_have_count(5)
    visitor.number("Pictures", 2)
    visitor.merge()
    visitor.page.locator("#draw-form .label-wrap").first.click()
    visitor.page.get_by_role("button", name="Keep seed 1").click()
    visitor.hear("done", "Seed 1 is kept")
    visitor.fold("Picture settings")
    expect(visitor.page.get_by_label("Seed", exact=True)).to_have_value("1")


@pytest.mark.slow(35)
def test_one_click_shows_what_it_is_about(arrive: Arrive, cheaper: Callable[..., None]) -> None:
    """An example draws the picture on its card; a phone has no sideways scroll."""
    cheaper(SMALL, samples=2, targets="cross-attention")
    visitor, example = arrive(PHONE), examples()[1]
    assert visitor.fits()
    visitor.page.get_by_role("button", name=example.title).click()
    visitor.hear("done")
    shown = example.comparison
    assert shown is not None
    assert visitor.prompt.input_value().splitlines()[0] == shown.prompt
    expect(visitor.page.get_by_role("button", name=f"Keep seed {shown.seed}")).to_be_visible()
    expect(visitor.pictures).to_have_count(5 * 3 * SEEDS)
    expect(visitor.page.locator("#verdict")).to_contain_text(f"of {SEEDS}, merged")
    assert visitor.fits()
    visitor.keep("phone")
    accessible(visitor)


def test_stop_stops_and_the_next_merge_works(arrive: Arrive, pair: tuple[Path, Path]) -> None:
    visitor = arrive()
    visitor.add(*pair)
    expect(visitor.loras).to_have_count(2)
    visitor.steps(50)  # still at work when all of the dock has been looked at
    visitor.press.click()
    expect(visitor.running).to_be_visible()
    expect(visitor.press).to_be_disabled()
    expect(visitor.page).to_have_title(re.compile(r"^\d+ % · IterIS Studio$"))
    accessible(visitor, "#dock")
    visitor.page.get_by_role("button", name="Stop").click()
    visitor.hear("stopped", "Stopped")
    expect(visitor.page).to_have_title("IterIS Studio")
    expect(visitor.press).to_be_enabled()
    visitor.method("sum")
    visitor.steps(2)
    visitor.one()
    visitor.merge()
    expect(visitor.pictures).to_have_count(5)
    expect(visitor.page.locator("#summary")).to_contain_text("Weighted sum")
    several_at_once(visitor)


def several_at_once(visitor: Visitor) -> None:
    """A batch: what is typed is counted, stopped, and made into one zip."""
    page, section = visitor.page, visitor.page.locator("#several")
    page.get_by_role("button", name="Several at once").click()
    lines, count = page.get_by_label("Strengths to try"), page.locator("#batch-count")
    expect(lines).to_have_value("sks-cat: 1\nvxz-pizza: 1")
    lines.fill("mug: 1")
    expect(count).to_contain_text("“mug: 1” begins with no name of a LoRA")
    lines.fill("sks-cat: 0.5, 1")
    expect(count).to_contain_text("1 method, 2 × 1 strengths: 2 merges.")
    make = page.get_by_role("button", name="Make them all")
    make.click()
    expect(visitor.running).to_contain_text("1 of 2, IterIS, ")
    page.get_by_role("button", name="Stop").click()
    visitor.hear("stopped")
    section.get_by_label("Weighted sum").check()
    section.get_by_label("IterIS").uncheck()
    section.get_by_label("Draw them as a matrix").check()
    make.click()
    visitor.hear("done", "the zip is ready")
    expect(page.locator("#batch-table tbody tr")).to_have_count(2)
    page.get_by_role("button", name="The batch as a command").click()
    expect(section.locator(".cm-content")).to_contain_text("python -m merging batch")
    accessible(visitor, "#several")
    visitor.keep("batch")
    page.get_by_role("link", name="History").click()
    newest = page.locator("#history .entry:visible").first
    expect(newest).to_contain_text("sks-cat at 1, vxz-pizza at 1")
    with page.expect_download() as download:
        page.get_by_text("Download the batch").click()
    assert download.value.suggested_filename == "batch_sks-cat+vxz-pizza.zip"
    with page.expect_download() as picture:
        page.locator("#matrix").get_by_text("download the matrix").click()
    with zipfile.ZipFile(Path(download.value.path())) as bundle:
        assert len(bundle.namelist()) == 8
        (sheet,) = (name for name in bundle.namelist() if name.endswith(MATRIX))
        assert Path(picture.value.path()).read_bytes() == bundle.read(sheet)
    cell_opens_its_merge(visitor, "#matrix")
    page.reload()
    expect(visitor.loras).to_have_count(2)
    visitor.complaints.clear()  # Gradio's client has some about streams that a reload cuts
    page.get_by_role("link", name="History").click()
    page.locator("#matrices summary").click()
    accessible(visitor, "#history")
    cell_opens_its_merge(visitor, "#matrices")


def cell_opens_its_merge(visitor: Visitor, place: str) -> None:
    """A click on a matrix brings strengths, picture and files of that merge."""
    page = visitor.page
    cells = page.locator(f"{place} button")
    expect(cells).to_have_count(2)
    cells.first.click()
    expect(page.get_by_label("number input for Strength").first).to_have_value("0.5")
    expect(page.locator("#pictures img")).to_have_count(1)
    expect(page.locator("#prompt")).to_be_in_viewport()
    expect(visitor.press).to_contain_text("Draw again")


def test_visitors_wait_for_each_other_and_share_nothing(
    arrive: Arrive, studio: Studio, url: str, pair: tuple[Path, Path]
) -> None:
    """Neither on the page, nor by asking for every path that there is in a visit's folder."""
    first, second = arrive(), arrive()
    first.add(*pair)
    expect(first.loras).to_have_count(2)
    expect(second.loras).to_have_count(0)
    second.add(*reversed(pair))
    expect(second.loras.first).to_contain_text("vxz pizza")
    own = [path for path in (studio.settings.work / "sessions").rglob("*") if path.is_file()]
    assert len(own) >= 4
    for path in own:
        with pytest.raises(HTTPError, match="403"):
            urlopen(f"{url}gradio_api/file={quote(str(path))}", timeout=20)
    first.prompts(200)  # work enough to be still at it when the second one asks
    first.press.click()
    expect(first.running).to_contain_text("Drawing")
    second.press.click()
    expect(second.running).to_contain_text("Waiting: one job is before yours")
    second.page.get_by_role("button", name="Stop").click()
    second.hear("stopped")
    expect(first.running).to_be_visible()
    first.page.get_by_role("button", name="Stop").click()
    first.hear("stopped")


def test_work_ends_when_its_visitor_leaves(
    arrive: Arrive, studio: Studio, pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not at once, but when nobody came back to it."""
    monkeypatch.setattr(studio.held, "patience", 1.0)
    visitor = arrive()
    visitor.add(*pair)
    expect(visitor.loras).to_have_count(2)
    visitor.press.click()
    expect(visitor.running).to_contain_text("Drawing")
    (worker,) = (thread for thread in threading.enumerate() if thread.name == "iteris-job")
    visitor.page.close()
    worker.join(timeout=60)
    assert not worker.is_alive()


def test_bad_files_are_reported_and_good_ones_taken(
    arrive: Arrive, pair: tuple[Path, Path], bad_files: dict[str, Path], tmp_path: Path
) -> None:
    visitor = arrive()
    twin = tmp_path / "<b>twin.safetensors"
    twin.write_bytes(pair[0].read_bytes())
    visitor.add(pair[0], *(bad_files[kind] for kind in ("text", "cut", "sdxl")), twin)
    said = visitor.problems()
    for words in ("text.safetensors is not a safetensors", "cut short", "SDXL", "twin: the same"):
        assert words in said, said
    expect(visitor.loras).to_have_count(1)
    expect(visitor.press).to_have_text("Add another LoRA")
    expect(visitor.press).to_be_disabled()
    visitor.page.get_by_role("link", name="Help").click()
    accessible(visitor)

    pickled = tmp_path / "cat.ckpt"
    pickled.write_bytes(b"\x80\x02}q.")
    visitor.add(pickled)
    expect(visitor.page.locator("#problems")).to_contain_text("cat.ckpt is a pickle file")
    visitor.add(bad_files["sd15"], bad_files["silent"])
    expect(visitor.loras).to_have_count(3)
    expect(visitor.page.locator(".lora .bad")).to_contain_text("for Stable Diffusion 1.5")
    hint = visitor.page.locator("#dock .hint")
    expect(hint).to_contain_text("sd15: made for Stable Diffusion 1.5")
    expect(visitor.press).to_be_disabled()
    visitor.keep("refused")
    visitor.drawer(1).get_by_role("button", name="Remove").click()
    expect(visitor.loras).to_have_count(2)
    expect(hint).to_contain_text("silent names no trigger words")
    listed = [LORAS / entry.file for two in shelf_pairs().values() for entry in two]
    others = [path for path in listed if path not in pair]
    visitor.add(*others[:3])
    said = f"{others[2].stem}: a merge takes at most 4 LoRAs here"
    expect(visitor.page.locator("#problems")).to_contain_text(said)
    expect(visitor.loras).to_have_count(4)

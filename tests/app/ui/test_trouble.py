"""What is nobody's mistake: a full disk, a visit that has ended, no network; on real ones."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from gradio.state_holder import SessionState
from playwright.sync_api import expect
from starlette.testclient import TestClient

from app.schemas.draw import DrawOrder
from app.schemas.merge import MergeOrder, SelectedFile
from app.service import Studio
from app.settings.model import Settings
from app.storage.room import room_of
from app.ui.api.checked_blocks import PAGE_MISFIT, CheckedBlocks
from app.ui.common import (
    DISK_FULL,
    INTERNAL_ERROR,
    NOT_WRITABLE,
    OUT_OF_MEMORY,
    error_sentence,
)
from app.ui.security.gradio_state import GradioState
from app.ui.security.guard import Guard
from app.ui.security.sites import Sites
from app.ui.security.uploads import Uploads
from merging.errors import FileError, MergeError
from tests.app.browsing import PHONE, Arrive
from tests.app.visits import added, finished
from tests.conftest import Sizes

MOUNTS = shutil.which("mount") and hasattr(os, "geteuid") and os.geteuid() == 0
small_disks = pytest.mark.skipif(not MOUNTS, reason="only root may mount a small disk")


@contextmanager
def disk(place: Path, size: str) -> Iterator[None]:
    """A disk of its own at a place."""
    place.mkdir(parents=True, exist_ok=True)
    mounted("-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place))
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def mounted(*words: str) -> None:
    subprocess.run(["mount", *words], check=True)


@contextmanager
def filled(place: Path) -> Iterator[None]:
    """Not a byte is free for a while."""
    filler = place / "filler"
    with filler.open("wb", buffering=0) as stream:
        for block in (1 << 16, 1 << 9, 1):
            try:
                while True:
                    stream.write(b"x" * block)
            except OSError as error:
                assert error.errno == errno.ENOSPC
    try:
        yield
    finally:
        filler.unlink()


def files_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


@small_disks
def test_a_full_disk_is_reported_and_leaves_no_half_of_a_file(
    settings: Settings, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    """Files, merges, pictures, the library: then there is room again, and all of it works."""
    work = tmp_path / "disk"
    with disk(work, "16m"):
        studio = Studio(replace(settings, work=work, min_free_mb=0))
        session, cards = added(studio, pair)
        picks = tuple(map(SelectedFile.of, cards))
        order, scene = MergeOrder(picks, method="sum"), DrawOrder((), "a cat", steps=1)
        before = files_in(work)
        with filled(work):
            for work_of_it in (
                lambda: studio.add(session, Path(pair[0]), []),
                lambda: finished(studio, session, order),
                lambda: list(studio.draw(session, scene)),
            ):
                with pytest.raises((MergeError, OSError)) as refused:
                    work_of_it()
                assert error_sentence(refused.value) == DISK_FULL
            kept = studio.keep(session, cards[0])
            assert "could not be stored in the library (No space left" in kept
            new = {path.name for path in files_in(work)} - {path.name for path in before}
            assert new <= {"filler", "index.sqlite", ".library.lock"}
        assert finished(studio, session, order).kohya.is_file()
        assert studio.keep(session, cards[0]) == ""
        assert [entry.name for entry in studio.library(session).search()] == ["sks-cat"]


def test_a_public_app_fetches_as_anybody_into_the_visit(
    settings: Settings, online: Callable[[Sizes], list[Any]], tmp_path: Path
) -> None:
    asked = online({"cat.safetensors": 9 << 20})
    public = Studio(replace(settings, work=tmp_path, home=None, free_base=False))
    session = public.open_session()
    found = public.fetch(session, "me/pets")
    assert found.path.is_relative_to(public.store.folder(session))
    assert [words[-1] for words in asked] == ["as anybody"] * 2
    card = public.add(session, found.path, [], found.name, found.origin)
    assert SelectedFile.of(card).origin.startswith("me/pets/cat.safetensors@4444")
    small = Studio(replace(public.settings, max_mb=8))
    with pytest.raises(MergeError, match=r"has 9 MiB, more than .* \(8 MiB\)"):
        small.fetch(small.open_session(), "me/pets")


def test_what_a_file_needs_beside_it_comes_along(
    studio: Studio, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    """PEFT's own form has its scale in a second file; the library, of single files, says so."""
    shutil.copy(pair[0], tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text("{}")
    session, (card,) = added(studio, [tmp_path / "adapter_model.safetensors"])
    assert (card.path.parent / "adapter_config.json").read_text() == "{}"
    assert "not stored in the library: a part of it is in a second file" in studio.keep(
        session, card
    )
    assert studio.library(session).search() == []


def test_no_folder_of_this_machine_is_shown(tmp_path: Path) -> None:
    """Whatever the library says of a path, to its own user at home, a visitor sees the name."""
    try:
        try:
            (tmp_path / "nowhere" / "a.png").open("xb")
        except OSError as error:
            raise FileError(f"{error.filename} cannot be written (why).", error) from error
    except MergeError as error:
        assert error_sentence(error) == "a.png cannot be written (why)."
    assert "report what you did" in error_sentence(RuntimeError("/secret"))
    inside = Path(tempfile.gettempdir()) / "sessions" / "token" / "a.png"
    assert error_sentence(MergeError(f"“{inside}” is bad.")) == "“a.png” is bad."
    assert error_sentence(MemoryError()) == OUT_OF_MEMORY
    allocator = "[enforce fail] DefaultCPUAllocator: can't allocate memory: 9 bytes"
    assert error_sentence(RuntimeError(allocator)) == OUT_OF_MEMORY


@small_disks
def test_a_full_disk_and_an_ended_visit_are_reported_on_the_page(
    arrive: Arrive, studio: Studio, blocks: Any, pair: tuple[Path, Path]
) -> None:
    """The visit ends twice: its folder goes, as with age; its state goes, as with a restart."""
    visitor = arrive(PHONE)
    folder = studio.settings.work / "sessions"
    with disk(folder, "64k"):
        visitor.add(pair[0])
        assert visitor.problems() == f"sks-cat.safetensors: {DISK_FULL}"
        mounted("-o", "remount,size=32m", str(folder))
        visitor.add(*pair)
        expect(visitor.loras).to_have_count(2)
        visitor.method("sum")
        visitor.steps(1)
        with filled(folder):
            visitor.press.click()
            visitor.hear("failed", DISK_FULL)
            visitor.keep("disk-full")
    visitor.press.click()
    visitor.hear("failed", "Your session has expired: reload the page")
    visitor.add(pair[0])
    assert "Your session has expired" in visitor.problems()
    visitor.keep("expired")
    later = arrive(PHONE)
    later.add(*pair)
    expect(later.page.locator("#conflicts")).to_contain_text("loading both may do as well")
    blocks.state_holder.session_data.clear()
    later.page.get_by_role("button", name="More about this LoRA").first.click()
    assert "Your session has expired" in later.problems()


def test_a_file_of_the_hub_becomes_a_card(
    arrive: Arrive,
    pair: tuple[Path, Path],
    online: Callable[[Sizes], list[Any]],
) -> None:
    """First without a network; then the Hub is a folder here."""
    visitor = arrive()
    page = visitor.page
    box = page.get_by_label("A LoRA on the Hugging Face Hub")
    box.fill("me/pets")
    page.get_by_role("button", name="Fetch").click()
    assert "could not be asked for it" in visitor.problems()
    box.fill("../etc/passwd")
    box.press("Enter")
    expect(page.locator(".problems")).to_contain_text("is no place on the Hub")
    online({"cat.safetensors": pair[0].stat().st_size})
    box.fill("https://huggingface.co/me/pets")
    box.press("Enter")
    expect(visitor.loras).to_have_count(1)
    expect(page.locator(".problems")).to_have_count(0)
    expect(box).to_have_value("")
    drawer = visitor.drawer(0)
    drawer.get_by_text("All facts").click()
    facts = drawer.locator("dl")
    expect(facts).to_be_visible()
    expect(facts).to_contain_text("me/pets/cat.safetensors@4444")
    visitor.keep("hub")


@pytest.mark.parametrize(
    ("error", "status", "sentence"),
    [
        (OSError(errno.ENOSPC, "full"), 507, DISK_FULL),
        (OSError(errno.EROFS, "read-only"), 500, NOT_WRITABLE),
        (MemoryError(), 500, OUT_OF_MEMORY),
        (RuntimeError("/secret"), 500, INTERNAL_ERROR),
    ],
    ids=repr,
)
def test_errors_inside_gradio_are_reported(
    settings: Settings,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
    status: int,
    sentence: str,
) -> None:
    """When it stores an upload, and when it copies the file of an argument."""

    async def store(*_: object) -> None:
        raise error

    def copy(_payload: object) -> None:
        raise error

    uploads = Uploads(settings.work, room_of(settings))
    guard = Guard(store, Sites(True, frozenset()), uploads, GradioState(gr.Blocks()))
    told = TestClient(guard, base_url="http://127.0.0.1").post("/gradio_api/upload")
    assert (told.status_code, told.text) == (status, sentence)
    (logged,) = (record for record in caplog.records if record.name == "app.ui.common")
    assert bool(logged.exc_info) == (sentence == INTERNAL_ERROR), "a traceback is a mistake of ours"

    with CheckedBlocks() as page:
        text = gr.Textbox()
        text.preprocess = copy
        gr.Button("go").click(lambda value: value, text, gr.Textbox())
    reading = page.preprocess_data(page.fns[0], ["x"], SessionState(page))
    with ThreadPoolExecutor(1) as thread, pytest.raises(gr.Error) as refused:
        thread.submit(asyncio.run, reading).result()  # a browser's loop may run in this thread
    expected = PAGE_MISFIT if sentence == INTERNAL_ERROR else sentence
    assert refused.value.message == expected

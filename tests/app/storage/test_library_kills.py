"""The library is packed: no LoRA is lost, whenever an app is killed and whoever else works."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from threading import Thread

import pytest

from app.schemas.card import Card
from app.service import Studio
from app.storage import library_packs
from app.storage.library import Library
from app.storage.library_folder import LibraryFolder
from merging import formats
from merging.errors import MergeError
from merging.io.files import file_sha256
from merging.packs.pack_file import packed_place
from tests.app.storage.packed_library import NAMES, files, loras, offered, relative_error

STEPS = ("bring", "copied", "named", "settle")


def killed(step: str, work: Callable[[], None]) -> None:
    """Do it in a process of its own, which ends at this step, and as if by a kill."""
    child = os.fork()
    if not child:
        try:
            ends_at(step)
            work()
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9


def die(*_: object, **__: object) -> None:
    os._exit(9)


def ends_at(step: str) -> None:
    """In the child: where the change ends."""
    if step == "bring":
        library_packs.keep_copy = die
    elif step == "copied":
        library_packs.unsettle = _second(library_packs.unsettle)
    elif step == "named":
        library_packs.write_row = die
    else:
        Path.unlink = die  # type: ignore[method-assign]


def _second(call: Callable[..., None]) -> Callable[..., None]:
    """The first call is made; the second one is the end."""
    calls: list[int] = []

    def counted(*arguments: object) -> None:
        calls.append(1)
        call(*arguments) if len(calls) == 1 else die()

    return counted


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the child is a fork")
@pytest.mark.parametrize("step", STEPS)
def test_whenever_it_ends_every_lora_is_there(
    filled: tuple[Studio, str], cards: list[Card], step: str
) -> None:
    studio, session = filled
    library, offer = studio.library(session), offered(studio, session)
    killed(step, lambda: library.pack(offer))
    _all_there(studio, session, cards, packed=step == "settle")
    if step != "settle":
        library.pack(offer)  # it can be done again
    last, first = (entry.sha256 for entry in library.search())
    studio.take_out(session, first)
    file = studio.lora(session, last)
    killed(step, lambda: library.take_out(last, file.path))
    _all_there(studio, session, cards)


def _all_there(studio: Studio, session: str, cards: list[Card], packed: bool | None = None) -> None:
    """Both can be read; after the next change no file is too many."""
    found = loras(studio, session)
    assert sorted(found) == NAMES
    for name, adapter in found.items():
        assert relative_error(adapter, formats.read(cards[NAMES.index(name)].path)) < 0.11
    library = studio.library(session)
    with LibraryFolder((studio.settings.home or Path()) / "library").changing():
        pass
    needed = {entry.pack or entry.sha256 for entry in library.search()}
    assert {path.stem for path in files(studio)} == needed
    if packed is not None:
        assert all(bool(entry.pack) == packed for entry in library.search())


def test_two_apps_on_one_home(filled: tuple[Studio, str], cards: list[Card]) -> None:
    """One packs and takes out, the other adds and deletes: each LoRA is whole or gone."""
    studio, session = filled
    mine, other = (Library((studio.settings.home or Path()) / "library") for _ in range(2))
    offer = offered(studio, session)
    singles = {}
    for member in offer.members:
        path = studio._unpack(session, offer.path, member.name, "the pack")
        singles[member.unpacked] = shutil.copy(path, path.with_name("kept.safetensors"))
    problems: list[MergeError] = []

    def pack_and_take_out() -> None:
        for _ in range(8):
            for work in (
                lambda: mine.pack(offer),
                *(lambda s=s: mine.take_out(s, Path(singles[s])) for s in singles),
            ):
                try:
                    work()
                except MergeError as error:
                    problems.append(error)

    def add_and_delete() -> None:
        for _ in range(8):
            for one in cards:
                other.keep(one)
            other.forget(cards[1].sha256)

    threads = [Thread(target=pack_and_take_out), Thread(target=add_and_delete)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    mine.keep(cards[0])
    assert all("no longer in the library" in str(e) or "in no pack" in str(e) for e in problems)
    entries = mine.search()
    assert {path.stem for path in files(studio)} == {one.pack or one.sha256 for one in entries}
    for entry in entries:
        place = packed_place(mine.file(entry.sha256).path)
        path = place[0] if place else mine.file(entry.sha256).path
        assert file_sha256(path) == path.stem

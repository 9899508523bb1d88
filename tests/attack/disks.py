"""Full disks, folders that cannot be written, too little memory: a sentence, and it goes on."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from app.schemas.card import Card
from app.schemas.draw import DrawOrder
from app.schemas.merge import MergeOrder, SelectedFile
from app.service import Studio
from app.settings.model import Settings
from app.ui.common import INTERNAL_ERROR, error_sentence
from tests.attack.files import is_sentence
from tests.attack.outcome import Outcome
from tests.attack.running import PAIR

CAN_MOUNT = hasattr(os, "geteuid") and os.geteuid() == 0 and shutil.which("mount")


@contextmanager
def small_disk(place: Path, megabytes: int = 16) -> Iterator[None]:
    """A disk of so many MB at a place; needs root."""
    place.mkdir(parents=True)
    size = f"size={megabytes}m"
    subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(place)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


@contextmanager
def filled(place: Path) -> Iterator[None]:
    """Not a byte of the disk is free meanwhile."""
    filler = place / "filler"
    with filler.open("wb", buffering=0) as stream:
        for block in (1 << 16, 1 << 9, 1):
            with suppress(OSError):
                while True:
                    stream.write(b"x" * block)
    try:
        yield
    finally:
        filler.unlink()


@contextmanager
def read_only(place: Path) -> Iterator[None]:
    """The disk cannot be written meanwhile."""
    subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)
    try:
        yield
    finally:
        subprocess.run(["mount", "-o", "remount,rw", str(place)], check=True)


def attack(folder: Path) -> Outcome:
    """Add, merge, draw and keep with each disk full, then read-only, then with little memory."""
    outcome = Outcome("full or read-only disks, little memory")
    if not CAN_MOUNT:
        outcome.figures = "not run: mounting a small disk needs root"
        return outcome
    work, home = folder / "work", folder / "home"
    with small_disk(work), small_disk(home):
        studio = Studio(Settings(device="cpu", work=work, home=home, min_free_mb=0))
        session = studio.open_session()
        cards: list[Card] = []
        for path in PAIR:
            cards.append(studio.add(session, path, cards))
        tasks = tasks_of(studio, session, cards)
        for task in tasks:
            task()  # all imports, and that it works at all
        for trouble in (filled(work), filled(home), read_only(home), read_only(work)):
            with trouble:
                for number, task in enumerate(tasks):
                    outcome.expect(*said(task, f"task {number}"))
            for number, task in enumerate(tasks):
                outcome.expect(works(task), f"task {number} does not work afterwards")
        outcome.expect(dies_kindly(tasks[1]), "little memory gave no sentence")
    return outcome


def tasks_of(studio: Studio, session: str, cards: list[Card]) -> list[Callable[[], object]]:
    order = MergeOrder(tuple(map(SelectedFile.of, cards)), method="sum")
    return [
        lambda: studio.add(session, PAIR[0], []),
        lambda: list(studio.merge(session, order)),
        lambda: list(studio.draw(session, DrawOrder((), "a cat", steps=1))),
        lambda: studio.keep(session, cards[0]),
    ]


def said(task: Callable[[], object], name: str) -> tuple[bool, str]:
    """Whether a task works, or ends with a sentence that is no "internal error"; and its text."""
    try:
        task()
    except Exception as error:  # noqa: BLE001 -- whatever it is, a visitor reads a sentence
        sentence = error_sentence(error)
        return is_sentence(sentence) and sentence != INTERNAL_ERROR, f"{name}: {error!r}"
    return True, ""


def works(task: Callable[[], object]) -> bool:
    with suppress(Exception):
        task()
        return True
    return False


def dies_kindly(task: Callable[[], object]) -> bool:
    """Whether a task in a forked process that may have hardly any more memory gives a sentence."""
    child = os.fork()
    if not child:
        used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 20), used + (1 << 20)))
        held, _ = said(task, "merge")
        os._exit(0 if held else errno.ENOMEM)
    return os.waitpid(child, 0)[1] == 0

"""kill -9 at random moments, and two apps on one home: nothing half, nothing lost that was kept."""

from __future__ import annotations

import math
import os
import random
import select
import signal
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from app.schemas.batch import BatchOrder
from app.schemas.card import Card
from app.schemas.draw import DrawOrder, Picture
from app.schemas.export import ExportOrder
from app.schemas.merge import FinishedMerge, MergeOrder, SelectedFile
from app.service import Studio
from app.settings.model import Settings
from app.storage.library import Library
from merging.errors import MergeError
from merging.io.files import file_sha256
from tests.attack.outcome import Outcome, within
from tests.attack.running import PAIR

SEED = 22
MARGIN = 1.2  # how much longer than all that is done until a kill, at most


def kills(folder: Path, rounds: int, seconds: float = math.inf) -> Outcome:
    """Kill a process that adds, merges, draws, exports and keeps, and look at what it left."""
    outcome = Outcome(f"kill -9 at random moments (seed {SEED})")
    chance = random.Random(SEED)
    studio = Studio(Settings(device="cpu", work=folder / "work", home=folder / "home"))
    longest = MARGIN * warm(studio)
    told: set[str] = set()
    killed = 0
    for _ in within(range(rounds), seconds):
        killed += 1
        later = killed % 2 == 0  # on a busy machine all else may come before anything is kept
        moment = chance.uniform(0, longest)
        told |= said_until_killed(lambda say: act_on(studio, say), moment, later)
        check_home(studio, told, outcome)
    outcome.expect(bool(told), "nothing was told as kept before any of the kills")
    outcome.figures = f"{killed} kills within {longest:.1f} s, {len(told):,} things told as kept"
    return outcome


def warm(studio: Studio) -> float:
    """Load the base and all imports, which every forked process then has.

    Returns the seconds that a process then takes for all that a person does.
    """
    for _ in range(2):
        begun = time.monotonic()
        act(studio, lambda _line: None)
    return time.monotonic() - begun


def added(studio: Studio, session: str) -> list[Card]:
    cards: list[Card] = []
    for path in PAIR:
        cards.append(studio.add(session, path, cards))
    return cards


def act(studio: Studio, say: Callable[[str], None]) -> None:
    """What a person does; each thing is said once it was told as kept."""
    session = studio.open_session()
    cards = added(studio, session)
    for card in cards:
        if not studio.keep(session, card):
            say(f"library {card.sha256}")
    order = MergeOrder(tuple(map(SelectedFile.of, cards)), method="sum", seed=os.getpid())
    (merged,) = (item for item in studio.merge(session, order) if isinstance(item, FinishedMerge))
    entry, problem = studio.remember(session, merged)
    if not problem:
        say(f"history {entry}")
    scene = DrawOrder((), "a cat", steps=1)
    pictures = [x for x in studio.draw(session, scene) if isinstance(x, Picture)]
    entry, problem = studio.remember(session, merged, scene, pictures)
    if not problem:
        say(f"history {entry}")
    studio.take(session, ExportOrder(merged))
    list(studio.batch(session, BatchOrder(order, ("sum", "average"), ((), ()))))
    studio.library(session).forget(cards[0].sha256)


def act_on(studio: Studio, say: Callable[[str], None]) -> None:
    """The same again and again."""
    while True:
        act(studio, say)


def said_until_killed(
    work: Callable[[Callable[[str], None]], None], seconds: float, later: bool = False
) -> set[str]:
    """The lines of a forked process that is killed after so many seconds.

    They count from its start, or from its first line if ``later``. RuntimeError if it ended by
    itself.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        try:
            with os.fdopen(writing, "w", buffering=1) as lines, ThreadPoolExecutor() as threads:
                # The first thread of a fork waits forever for those that torch had in its parent.
                threads.submit(work, lambda line: print(line, file=lines, flush=True)).result()
        except BaseException:  # noqa: BLE001 -- whatever it is, nothing of the parent's runs here
            traceback.print_exc()
        os._exit(1)
    os.close(writing)
    if later:
        select.select([reading], [], [])
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    if not os.WIFSIGNALED(os.waitpid(child, 0)[1]):
        raise RuntimeError("the process ended before it was killed")
    with os.fdopen(reading) as said:
        return {line.strip() for line in said if line.endswith("\n")}


def check_home(studio: Studio, told: set[str], outcome: Outcome) -> None:
    """Every file is whole, every entry opens, and what was told as kept is there."""
    home = studio.settings.home
    assert home
    for path in home.rglob("*.safetensors"):
        if not path.name.startswith("."):
            outcome.expect(path.stem == file_sha256(path), f"{path.name} is not whole")
    session = studio.open_session()
    for line in sorted(told):
        kind, _, name = line.partition(" ")
        if kind == "history":
            outcome.expect(opens(lambda n=name: studio.recall(session, int(n))), f"{line} is lost")
    # the first LoRA of the pair is forgotten again and again: its kept file may be gone, no other
    kept = {line.partition(" ")[2] for line in told if line.startswith("library")}
    for sha256 in kept - {file_sha256(PAIR[0])}:
        outcome.expect(opens(lambda s=sha256: studio.library(session).file(s)), f"{sha256} is lost")


def opens(look: Callable[[], object]) -> bool:
    try:
        look()
    except MergeError:
        return False
    return True


def rivals(folder: Path, rounds: int, seconds: float = math.inf) -> Outcome:
    """Two processes on one home: one keeps a file while the other forgets it."""
    outcome = Outcome("two apps on one home, keep against forget")
    studio = Studio(Settings(device="cpu", work=folder / "work", home=folder / "home"))
    session = studio.open_session()
    card = studio.add(session, PAIR[0], [])
    library = Library(folder / "home" / "library")
    library.keep(card)
    for number in within(range(rounds), seconds):
        children = [
            forked(lambda: library.keep(card)),
            forked(lambda: library.forget(card.sha256)),
        ]
        ends = [os.waitpid(child, 0)[1] for child in children]
        outcome.expect(not any(ends), f"round {number}: an app failed")
        listed = bool(library._folder.entries())
        lies = (folder / "home" / "library" / f"{card.sha256}.safetensors").is_file()
        outcome.expect(listed == lies, f"round {number}: listed {listed}, on the disk {lies}")
        if not listed:
            library.keep(card)
    return outcome


def forked(work: Callable[[], None]) -> int:
    """Start a process that works and ends with 0, or 1 after an error."""
    child = os.fork()
    if child:
        return child
    status = 1
    with suppress(BaseException):
        work()
        status = 0
    os._exit(status)

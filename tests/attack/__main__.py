"""``python -m tests.attack [--short | --full] [--only WORD]``: attacks on this machine alone.

Prints a table; without ``--only`` and ``--short``, writes it between the markers in
docs/security.md too. What is repeated stops after a time, with ``--full`` after all tries alone.
The exit status is 1 if anything did not hold.
"""

from __future__ import annotations

import argparse
import math
import os
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.attack import (
    arguments,
    disks,
    ends,
    files,
    homes,
    outputs,
    pages,
    strangers,
    tools,
    visitors,
)
from tests.attack.outcome import Outcome
from tests.attack.running import PAIR, ROOT, running

PAGE = ROOT / "docs" / "security.md"
MARKS = ("<!-- attacks -->\n", "<!-- /attacks -->")
FEW = (float("nan"), 1e308, "5")


@dataclass(frozen=True)
class Counts:
    """How often what is tried; loops stop after ``seconds`` too."""

    files: int
    kills: int
    rivals: int
    values: tuple[Any, ...]
    visitors: int
    jobs: int  # of each visitor
    pictures: int  # while the memory is watched
    seconds: float


SHORT = Counts(100, 3, 5, FEW, 4, 1, 10, 60)
USUAL = Counts(10_000, 60, 300, arguments.HOSTILE, 10, 2, 40, 30)
FULL = Counts(10_000, 60, 300, arguments.HOSTILE, 20, 10, 200, math.inf)


def library(folder: Path, counts: Counts) -> Iterator[Callable[[], Outcome]]:
    """Attacks on the library and the service."""
    yield lambda: files.attack(new(folder, "files"), counts.files, counts.seconds)
    yield lambda: homes.rivals(new(folder, "rivals"), counts.rivals, counts.seconds)
    yield lambda: homes.kills(new(folder, "kills"), counts.kills, counts.seconds)
    yield lambda: disks.attack(new(folder, "disks"))
    yield lambda: outputs.after_a_stop(new(folder, "stop"))
    yield lambda: outputs.threads(new(folder, "threads"))


def private(folder: Path, counts: Counts) -> Iterator[Callable[[], Outcome]]:
    """Attacks on an app as a person starts it at home, with tools for language models."""
    with running(folder, ITERIS_MCP="on") as app:
        given = (counts.values, counts.seconds)
        sent = app.upload(*PAIR)
        places = [f"{app.url}gradio_api/file={file['path']}" for file in sent]
        yield lambda: arguments.attack(app.url, sent, *given)
        yield lambda: tools.attack(app.url, places, *given)
        yield lambda: pages.attack(app, folder)


def public(folder: Path, counts: Counts) -> Iterator[Callable[[], Outcome]]:
    """Attacks on an app that is open to everybody, behind a proxy."""
    with running(folder, **visitors.PUBLIC) as app:
        yield lambda: visitors.crowd(app, counts.visitors, counts.jobs, "fresh")
        yield lambda: visitors.crowd(app, counts.visitors, counts.jobs, "warm")
        yield lambda: visitors.greedy(app)
        yield lambda: visitors.flood(app)
        yield lambda: visitors.leaving(app)
        yield lambda: visitors.memory(app, counts.pictures)
        yield lambda: strangers.files(app, folder)
        yield lambda: strangers.sessions(app)


def endings(folder: Path, _counts: Counts) -> Iterator[Callable[[], Outcome]]:
    """Apps that are told to end."""
    yield lambda: ends.attack(folder)


ATTACKS: dict[str, Callable[[Path, Counts], Iterator[Callable[[], Outcome]]]] = {
    "library": library,
    "private": private,
    "public": public,
    "ends": endings,
}


def timed(attack: Callable[[], Outcome]) -> Outcome:
    """The outcome of an attack, and how long it took; if it breaks, that is what it came to."""
    begun = time.monotonic()
    try:
        outcome = attack()
    except Exception:  # noqa: BLE001 -- the other attacks go on
        outcome = Outcome("an attack that broke", 1, failures=[traceback.format_exc()])
    outcome.seconds = time.monotonic() - begun
    print(outcome.row, flush=True)
    for failure in outcome.failures[:20]:
        print(f"  {failure}", flush=True)
    return outcome


def new(folder: Path, name: str) -> Path:
    """A new folder."""
    path = folder / name
    path.mkdir()
    return path


def table(outcomes: list[Outcome]) -> str:
    """The outcomes as Markdown."""
    head = "| attack | tries | outcome | took | measured |\n| --- | --- | --- | --- | --- |\n"
    return head + "\n".join(outcome.row for outcome in outcomes) + "\n"


def write(text: str) -> None:
    """Put the table between the page's markers."""
    before, _, rest = PAGE.read_text("utf-8").partition(MARKS[0])
    after = rest.partition(MARKS[1])[2]
    PAGE.write_text(f"{before}{MARKS[0]}{text}{MARKS[1]}{after}", "utf-8")


def main() -> int:
    """Run the attacks that the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m tests.attack", description=__doc__)
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--short", action="store_true", help="few tries of each attack")
    size.add_argument("--full", action="store_true", help="all tries, however long they take")
    parser.add_argument("--only", choices=ATTACKS, help="a group of the attacks")
    options = parser.parse_args()
    counts = SHORT if options.short else FULL if options.full else USUAL
    outcomes: list[Outcome] = []
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="attack-", ignore_cleanup_errors=True) as folder:
        for name in [options.only] if options.only else ATTACKS:
            outcomes += map(timed, ATTACKS[name](new(Path(folder), name), counts))
    command = f"python -m tests.attack{' --full' if options.full else ''}"
    machine = f"{os.cpu_count()} cores, {os.getloadavg()[0]:.0f} processes at work at the end"
    took = f"{time.monotonic() - begun:.0f} s ({machine})"
    text = f"`{command}` printed, in {took}:\n\n{table(outcomes)}"
    print(text)
    if not (options.only or options.short):
        write(text)
    return int(any(outcome.failures for outcome in outcomes))


if __name__ == "__main__":
    raise SystemExit(main())

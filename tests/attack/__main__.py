"""``python -m tests.attack [--short] [--only WORD]``: run the attacks, on this machine alone.

Prints a table; without ``--only``, writes it between the markers in docs/security.md too. The exit
status is 1 if anything did not hold.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.attack import arguments, disks, files, homes, outputs, pages, strangers, visitors
from tests.attack.outcome import Outcome
from tests.attack.running import PAIR, ROOT, running

PAGE = ROOT / "docs" / "security.md"
MARKS = ("<!-- attacks -->\n", "<!-- /attacks -->")
FEW = (float("nan"), 1e308, "5")
Attack = Callable[[Path, bool], list[Outcome]]


def without_app(folder: Path, short: bool) -> list[Outcome]:
    """Attacks on the library and the service."""
    return [
        files.attack(new(folder, "files"), 100 if short else 10_000),
        homes.rivals(new(folder, "rivals"), 5 if short else 300),
        homes.kills(new(folder, "kills"), 3 if short else 60),
        disks.attack(new(folder, "disks")),
        outputs.after_a_stop(new(folder, "stop")),
        outputs.threads(),
    ]


def private_app(folder: Path, short: bool) -> list[Outcome]:
    """Attacks on an app as a person starts it at home."""
    with running(folder) as app:
        return [
            arguments.attack(app.url, app.upload(*PAIR), FEW if short else arguments.HOSTILE),
            pages.attack(app, folder),
        ]


def public_app(folder: Path, short: bool) -> list[Outcome]:
    """Attacks on an app that is open to everybody, behind a proxy."""
    people, jobs = (4, 1) if short else (20, 10)
    with running(folder, **visitors.PUBLIC) as app:
        return [
            visitors.crowd(app, people, jobs, "fresh"),
            visitors.crowd(app, people, jobs, "warm"),
            visitors.greedy(app),
            visitors.leaving(app),
            visitors.memory(app, 10 if short else 200),
            strangers.files(app, folder),
            strangers.sessions(app),
            strangers.ends(app),
        ]


ATTACKS: dict[str, Attack] = {
    "library": without_app,
    "private": private_app,
    "public": public_app,
}


def new(folder: Path, name: str) -> Path:
    """A new folder."""
    path = folder / name
    path.mkdir()
    return path


def table(outcomes: list[Outcome]) -> str:
    """The outcomes as Markdown."""
    head = "| attack | tries | outcome | measured |\n| --- | --- | --- | --- |\n"
    return head + "\n".join(outcome.row for outcome in outcomes) + "\n"


def write(text: str) -> None:
    """Put the table between the page's markers."""
    before, _, rest = PAGE.read_text("utf-8").partition(MARKS[0])
    after = rest.partition(MARKS[1])[2]
    PAGE.write_text(f"{before}{MARKS[0]}{text}{MARKS[1]}{after}", "utf-8")


def main() -> int:
    """Run the attacks that the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m tests.attack", description=__doc__)
    parser.add_argument("--short", action="store_true", help="few tries of each attack")
    parser.add_argument("--only", choices=ATTACKS, help="a group of the attacks")
    options = parser.parse_args()
    outcomes: list[Outcome] = []
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="attack-", ignore_cleanup_errors=True) as folder:
        for name in [options.only] if options.only else ATTACKS:
            outcomes += ATTACKS[name](new(Path(folder), name), options.short)
    command = f"python -m tests.attack{' --short' if options.short else ''}"
    text = f"`{command}` printed, in {time.monotonic() - begun:.0f} s:\n\n{table(outcomes)}"
    print(text)
    for outcome in outcomes:
        for failure in outcome.failures[:20]:
            print(f"{outcome.attack}: {failure}")
    if not options.only:
        write(text)
    return int(any(outcome.failures for outcome in outcomes))


if __name__ == "__main__":
    raise SystemExit(main())

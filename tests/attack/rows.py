"""The attacks by name, in the order of the table, with the app that each of them needs."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from tests.attack import (
    arguments,
    disks,
    ends,
    files,
    full_app,
    homes,
    leaving,
    names,
    outputs,
    pages,
    served,
    strangers,
    tools,
    visitors,
)
from tests.attack.counts import Counts
from tests.attack.outcome import Outcome, today
from tests.attack.running import Running, running

Attack = Callable[[Path, Counts], Outcome]
AppAttack = Callable[[Running, Path, Counts], Outcome]

# On the library and the service; those of full_app and ends start apps of their own.
ALONE: dict[str, Attack] = {
    "files": lambda folder, counts: files.attack(folder, counts.files, counts.seconds),
    "names": lambda folder, counts: names.attack(folder, counts.seconds),
    "rivals": lambda folder, counts: homes.rivals(folder, counts.rivals, counts.seconds),
    "kills": lambda folder, counts: homes.kills(folder, counts.kills, counts.seconds),
    "app-kills": lambda folder, counts: served.kills(folder, counts.kills, counts.seconds),
    "disks": lambda folder, _: disks.attack(folder),
    "full-app": lambda folder, _: full_app.attack(folder),
    "stop": lambda folder, _: outputs.after_a_stop(folder),
    "threads": lambda folder, _: outputs.threads(folder),
    "ends": lambda folder, _: ends.attack(folder),
}
# On an app as a person starts it at home, with tools for language models.
PRIVATE: dict[str, AppAttack] = {
    "arguments": lambda app, _, counts: arguments.attack(app, counts.values, counts.seconds),
    "tools": lambda app, _, counts: tools.attack(app, counts.values, counts.seconds),
    "page": lambda app, folder, _: pages.attack(app, folder),
}
# On an app that is open to everybody, behind a proxy.
PUBLIC: dict[str, AppAttack] = {
    "fresh": lambda app, _, counts: visitors.crowd(app, counts.visitors, counts.jobs, "fresh"),
    "warm": lambda app, _, counts: visitors.crowd(app, counts.visitors, counts.jobs, "warm"),
    "greedy": lambda app, _folder, _: visitors.greedy(app),
    "flood": lambda app, _folder, _: visitors.flood(app),
    "lost": lambda app, _folder, _: leaving.lost(app),
    "closed": lambda app, _folder, _: leaving.closed(app),
    "memory": lambda app, _, counts: visitors.memory(app, counts.pictures),
    "others": lambda app, folder, _: strangers.files(app, folder.parent),
    "sessions": lambda app, _folder, _: strangers.sessions(app),
}
NAMES = (*ALONE, *PRIVATE, *PUBLIC)


def outcomes(chosen: Collection[str], folder: Path, counts: Counts) -> Iterator[Outcome]:
    """Run the rows of these names, those of one app one after the other."""
    for name in filter(chosen.__contains__, ALONE):
        place = new(folder, name)
        yield timed(name, counts, lambda name=name, place=place: ALONE[name](place, counts))
    for environ, rows in (({"ITERIS_MCP": "on"}, PRIVATE), (visitors.PUBLIC, PUBLIC)):
        here = [name for name in rows if name in chosen]
        if not here:
            continue
        shared = new(folder, "private" if rows is PRIVATE else "public")
        with running(shared, **environ) as app:
            for name in here:
                place, attack = new(shared, name), rows[name]
                yield timed(name, counts, lambda a=attack, p=place: a(app, p, counts))


def timed(name: str, counts: Counts, attack: Callable[[], Outcome]) -> Outcome:
    """The outcome of an attack, and how long it took; if it breaks, that is what it came to."""
    begun = time.monotonic()
    try:
        outcome = attack()
    except Exception:  # noqa: BLE001 -- the other attacks go on
        outcome = Outcome("an attack that broke", 1, failures=[traceback.format_exc()])
    outcome.name, outcome.size, outcome.day = name, counts.size, today()
    outcome.seconds = time.monotonic() - begun
    return outcome


def new(folder: Path, name: str) -> Path:
    """A new folder."""
    path = folder / name
    path.mkdir()
    return path

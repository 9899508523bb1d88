"""A running app whose folders are full or cannot be written, and one without memory.

`disks` does the same with the service, library and history included; here it is the web that
answers.
"""

from __future__ import annotations

import json
import os
import resource
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx

from app.ui.common import DISK_FULL, NOT_WRITABLE, OUT_OF_MEMORY
from tests.attack.arguments import ask
from tests.attack.disks import CAN_MOUNT, filled, read_only, small_disk
from tests.attack.outcome import Outcome
from tests.attack.running import PAIR, Running, listed, running
from tests.attack.visitors import usual_arguments

LARGE = "256x256"
SCARCE = 8 << 20  # bytes that may still be taken
NO_MEMORY = "ran out of memory"
SENTENCES = (DISK_FULL, NOT_WRITABLE, OUT_OF_MEMORY)
PARTS = (NO_MEMORY, "would stay free on the disk of this machine")  # of other sentences


def attack(folder: Path) -> Outcome:
    """Upload, draw and merge with each folder full, then not writable, then without memory."""
    outcome = Outcome("an app with full or read-only folders, and without memory")
    if not CAN_MOUNT:
        outcome.figures = "not run: mounting a small disk needs root"
        return outcome
    places = {name: folder / name for name in ("work", "home", "temporary")}
    with ExitStack() as stack:
        for place in places.values():
            stack.enter_context(small_disk(place, 64))
        environ = {
            "ITERIS_WORK": str(places["work"]),
            "ITERIS_HOME": str(places["home"]),
            "TMPDIR": str(places["temporary"]),
            "ITERIS_MIN_FREE_MB": "1",
        }
        app = stack.enter_context(running(folder, **environ))
        works(app, outcome, "at first")
        for name, place in places.items():
            for kind, trouble in (("full", filled(place)), ("read-only", read_only(place))):
                with trouble:
                    troubled(app, outcome, f"{name} {kind}")
                works(app, outcome, f"after {name} was {kind}")
        with scarce_memory(app):
            troubled(app, outcome, "without memory", size=LARGE)
            ended = tried(app, LARGE)["render"]
            outcome.expect(NO_MEMORY in ended[1], f"a large picture had memory: {ended[0]}")
        works(app, outcome, "after it had no memory")
        log = app.log.read_text()
        outcome.expect(
            "Traceback" not in log, f"a traceback: {log.rpartition('Traceback')[2][-900:]}"
        )
    with ExitStack() as stack:
        home = folder / "first"
        stack.enter_context(small_disk(home))
        stack.enter_context(read_only(home))
        place = folder / "second"
        place.mkdir()
        app = stack.enter_context(running(place, ITERIS_HOME=str(home)))
        works(app, outcome, "with a read-only home from the start")
    return outcome


def works(app: Running, outcome: Outcome, when: str) -> None:
    """Everything works."""
    for name, (status, answer) in tried(app).items():
        outcome.expect(status == "complete", f"{when}: {name}: {status} {answer[:200]}")


def troubled(app: Running, outcome: Outcome, when: str, size: str = "") -> None:
    """Everything works or ends with one of the sentences, and the page is there."""
    for name, (status, answer) in tried(app, size).items():
        said = str(json.loads(answer)["error"]) if status == "error" else answer
        known = said in SENTENCES or any(part in said for part in PARTS)
        clean = status == "complete" or known
        outcome.expect(clean, f"{when}: {name}: {status} {said[:200]}")
    page = httpx.get(app.url, timeout=60)
    outcome.expect(page.status_code == 200, f"{when}: the page gave {page.status_code}")


def tried(app: Running, size: str = "") -> dict[str, tuple[str, str]]:
    """How an upload, a picture and a merge of what was uploaded end, and their texts."""
    kept = httpx.post(
        f"{app.url}gradio_api/upload",
        files=[("files", (path.name, path.read_bytes())) for path in PAIR],
        timeout=60,
    )
    if kept.status_code != 200:
        ended = {"upload": (str(kept.status_code), kept.text)}
    else:
        ended = {"upload": ("complete", "")}
        app.files = listed(kept.json())
    with httpx.Client(timeout=300) as client:
        given = {"files": app.files, "method": "sum"}
        for name, values in (("render", {"size": size}), ("merge", given)):
            arguments = usual_arguments(app.url, 1, name, **values)
            ended[name] = ask(client, app.url, f"/{name}", arguments)
    return ended


@contextmanager
def scarce_memory(app: Running) -> Iterator[None]:
    """The app may take hardly any more memory meanwhile."""
    pages = int(Path(f"/proc/{app.process.pid}/statm").read_text().split()[0])
    most = pages * os.sysconf("SC_PAGE_SIZE") + SCARCE
    before = resource.prlimit(app.process.pid, resource.RLIMIT_AS, (most, resource.RLIM_INFINITY))
    try:
        yield
    finally:
        resource.prlimit(app.process.pid, resource.RLIMIT_AS, before)

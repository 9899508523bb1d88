"""kill -9 of the web server at random moments, and what the next one finds.

The server is the whole app, as ``python -m app`` serves it, in a process that is forked from one
which has imported everything: a start takes a second and not ten. It answers calls by HTTP, and at
the same time does what a page asks its service for: the library, the history, exports, batches.
"""

from __future__ import annotations

import math
import random
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import httpx

from app.__main__ import prepare
from app.service import Studio
from app.settings.model import Settings
from tests.attack.homes import act_on, check_home, said_until_killed, warm
from tests.attack.outcome import Outcome, within
from tests.attack.running import PAIR, free_port, is_served, upload
from tests.attack.visitors import usual_arguments

SEED = 24
MANY = 10  # kills, of which one at least comes late enough that something is kept before it
SLOWER = 3  # times as long as without calls by HTTP may pass until a kill


def kills(folder: Path, rounds: int, seconds: float = math.inf) -> Outcome:
    """Kill the server, look at the folders, and start it on the same ones again."""
    outcome = Outcome(f"kill -9 of the web server at random moments, and its restart (seed {SEED})")
    chance = random.Random(SEED)
    settings = Settings(device="cpu", work=folder / "work", home=folder / "home", port=free_port())
    longest = SLOWER * warm(Studio(settings))
    from app.ui import launch, page  # noqa: F401 -- imported before the forks

    told: set[str] = set()
    killed = answers = 0
    for _ in within(range(rounds), seconds):
        killed += 1
        calls = Calls(settings.port)
        threading.Thread(target=calls.ask, daemon=True).start()
        moment = chance.uniform(0, longest)
        told |= said_until_killed(partial(serve, settings), moment, later=True)
        answers += calls.end()
        outcome.expect(calls.served, "the server did not start")
        check_home(Studio(settings), told - {"serving"}, outcome)
        check_work(settings.work, outcome)
    outcome.expect(
        told > {"serving"} or killed < MANY, "nothing was told as kept before any of the kills"
    )
    outcome.figures = (
        f"{killed} kills within {longest:.1f} s, {answers} calls answered, "
        f"{len(told) - 1:,} things told as kept"
    )
    return outcome


def serve(settings: Settings, say: Callable[[str], None]) -> None:
    """The app, until it is killed; what its service tells as kept is said."""
    from app.storage.sessions import Store, start_janitor
    from app.ui.launch import launch
    from app.ui.page import build

    prepare(settings)  # in this process alone: it changes the folder for temporary files
    studio = Studio(settings)
    uploads = Store(settings.work / "gradio", 3600 * settings.keep_hours)
    start_janitor([studio.store, uploads])
    launch(build(studio), settings, studio.room, prevent_thread_lock=True)
    say("serving")
    act_on(studio, say)


class Calls:
    """A program that uploads, merges and draws by HTTP until the server is gone."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}/"
        self._done = threading.Event()
        self._answers = 0
        self.served = False

    def ask(self) -> None:
        """One call after the other."""
        while not self._done.is_set():
            with suppress(httpx.HTTPError, ValueError, KeyError):
                self._round()
            time.sleep(0.05)

    def _round(self) -> None:
        if not is_served(self._url):
            return
        self.served = True
        files = upload(self._url, *PAIR)
        for name, given in (("render", {}), ("merge", {"files": files, "method": "sum"})):
            arguments = usual_arguments(self._url, 1, name, **given)
            place = f"{self._url}gradio_api/call/{name}"
            sent = httpx.post(place, json={"data": arguments}, timeout=60)
            text = httpx.get(f"{place}/{sent.json()['event_id']}", timeout=60).text
            self._answers += "event: complete" in text

    def end(self) -> int:
        """Stop; how many calls were answered."""
        self._done.set()
        return self._answers


def check_work(work: Path, outcome: Outcome) -> None:
    """Files of visits may be left, whole ones: their names are not hashes, their bytes are read."""
    from merging.errors import MergeError
    from merging.formats.overview import overview

    for path in (work / "sessions").rglob("*.safetensors"):
        if path.name.startswith("."):
            continue
        try:
            overview(path)
        except MergeError as error:
            outcome.expect(False, f"half a file: {error}")
        else:
            outcome.tried += 1

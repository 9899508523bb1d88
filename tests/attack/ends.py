"""SIGTERM and Ctrl+C, idle and at work: how long the program takes, and what it leaves."""

from __future__ import annotations

import json
import signal
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from merging.io.files import file_sha256
from tests.attack.outcome import Outcome
from tests.attack.running import PAIR, Running, running, seconds_to_end

IDLE, AT_WORK = 2.0, 5.0  # seconds that an end may take
LONG: dict[str, dict[str, Any]] = {
    "render": {"prompt": "a cat", "steps": 100},
    "merge": {"method": "iteris", "samples": 64},
}


def attack(folder: Path) -> Outcome:
    """End apps that are idle, that draw, that merge, and that have hardly begun."""
    outcome = Outcome("SIGTERM and Ctrl+C")
    figures = []
    for number, (about, begin, limit) in enumerate(CASES):
        place = folder / str(number)
        place.mkdir()
        with running(place) as app:
            begin(app)
            seconds = seconds_to_end(app, signal.SIGTERM if number % 2 else signal.SIGINT)
        figures.append(f"{about} {seconds:.1f} s")
        outcome.expect(seconds < limit, f"{about}: it took {seconds:.1f} s")
        outcome.expect(app.process.returncode == 0, f"{about}: {app.process.returncode}")
        outcome.expect("Traceback" not in app.log.read_text(), f"{about}: a traceback in the log")
        left = half_files(place)
        outcome.expect(not left, f"{about}: left {left}")
    outcome.figures = ", ".join(figures)
    return outcome


def idle(app: Running) -> None:
    """Wait until the base model has been loaded, and nothing goes on."""
    list_of(app, "render", {"prompt": "a cat", "steps": 1})


def drawing(app: Running) -> None:
    """A picture of many steps is under way."""
    begin(app, "render", [])


def merging(app: Running) -> None:
    """A merge is under way."""
    begin(app, "merge", app.upload(*PAIR))


def list_of(app: Running, name: str, given: dict[str, Any]) -> str:
    """Call an endpoint and wait for its end."""
    url = f"{app.url}gradio_api/call/{name}"
    event = httpx.post(url, json={"data": arguments(app, name, given)}, timeout=120).json()
    return httpx.get(f"{url}/{event['event_id']}", timeout=300).text


def begin(app: Running, name: str, files: list[dict[str, Any]]) -> None:
    """Call an endpoint, and return when its job is at work."""
    url = f"{app.url}gradio_api/call/{name}"
    given = {**LONG[name], **({"files": files} if files else {})}
    event = httpx.post(url, json={"data": arguments(app, name, given)}, timeout=120).json()
    with httpx.stream("GET", f"{url}/{event['event_id']}", timeout=120) as said:
        for line in said.iter_lines():
            if not line.startswith("data: "):
                continue
            progress = json.loads(line[6:])
            if isinstance(progress, dict):
                raise RuntimeError(f"{name}: {progress}")
            if progress and "Waiting" not in line and progress[1]["progress"] > 0.02:
                return
            time.sleep(0.05)


def arguments(app: Running, name: str, given: dict[str, Any]) -> list[Any]:
    """All arguments of an endpoint in order, by its own list."""
    about = httpx.get(f"{app.url}gradio_api/info", timeout=120).json()["named_endpoints"]
    return [
        given.get(each["parameter_name"], each.get("parameter_default"))
        for each in about[f"/{name}"]["parameters"]
    ]


def half_files(place: Path) -> list[str]:
    """What an end has left that it should not have: temporary folders, parts, broken indexes."""
    left = [path.name for path in place.glob("iteris-studio-*")]
    for path in (place / "home").rglob("*"):
        if path.name.endswith(".sqlite"):
            with sqlite3.connect(path) as index:
                sound = index.execute("pragma integrity_check").fetchone()[0] == "ok"
        else:
            sound = path.suffix != ".safetensors" or path.stem == file_sha256(path)
        left += [] if sound else [path.name]
    return left


CASES: tuple[tuple[str, Callable[[Running], None], float], ...] = (
    ("idle, Ctrl+C:", idle, IDLE),
    ("drawing, SIGTERM:", drawing, AT_WORK),
    ("merging, Ctrl+C:", merging, AT_WORK),
    ("loading the base, SIGTERM:", lambda _app: None, AT_WORK),
)

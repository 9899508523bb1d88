"""Another visitor's session hash, files, stream and cancel."""

from __future__ import annotations

import re
import time
from contextlib import suppress
from pathlib import Path

import httpx

from tests.attack.arguments import ask
from tests.attack.outcome import Outcome
from tests.attack.running import PAIR, Running
from tests.attack.visitors import address, usual_arguments

FOREIGN = (
    "/etc/passwd", "/proc/self/environ", "/proc/self/cmdline", "../../../../etc/passwd",
    "file:///etc/passwd", "http://127.0.0.1:1/x", "//etc/passwd", "/./etc//passwd", "~/.bashrc",
)  # fmt: skip


def files(app: Running, home: Path) -> Outcome:
    """Read and hand in files that are no uploads: of the machine, the app, and other visitors."""
    outcome = Outcome("files of the machine and of others")
    mine = app.upload(PAIR[0], **address(11))[0]["path"]
    sessions = [str(path) for path in home.glob("iteris-studio-*/sessions/*/*/*")]
    token = re.sub(r"[0-9a-f]{64}", "0" * 64, mine)
    with httpx.Client(timeout=60) as client:
        for path in (*FOREIGN, token, *sessions, str(home), str(app.log)):
            for form in ("file=", "file/"):
                told = client.get(f"{app.url}gradio_api/{form}{path}")
                outcome.expect(
                    told.status_code in (403, 404), f"{form}{path} gave {told.status_code}"
                )
            for meta in ({"_type": "gradio.FileData"}, None):
                given = {"path": path, **({"meta": meta} if meta else {})}
                status, answer = ask(client, app.url, "/inspect", [given])
                outcome.expect(status != "complete", f"inspect took {path}: {answer[:80]}")
    return outcome


def sessions(app: Running) -> Outcome:
    """Guess at another's events: streams and cancels of unknown sessions and events."""
    outcome = Outcome("another visitor’s session hash, stream and cancel")
    url = f"{app.url}gradio_api/"
    with httpx.Client(timeout=60) as client:
        arguments = usual_arguments(app.url)
        sent = client.post(f"{url}call/render", json={"data": arguments}, headers=address(12))
        event = sent.json()["event_id"]
        guess = {"session_hash": "x", "fn_index": 0, "event_id": event[:-1] + "0"}
        told = client.post(f"{url}cancel", json=guess, headers=address(13))
        outcome.expect(told.status_code < 500, f"cancel gave {told.status_code}")
        end = client.get(f"{url}call/render/{event}", headers=address(12)).text
        outcome.expect("event: complete" in end, "a stranger stopped the job")
        said = begins(client, f"{url}call/render/{'0' * 32}", address(13))
        outcome.expect("complete" not in said, "a guessed event has an answer")
        state = client.get(f"{app.url}config").json()
        secret = [item for item in state["components"] if item["type"] == "state"]
        outcome.expect(not any(item["props"].get("value") for item in secret), "a state is told")
    return outcome


def begins(client: httpx.Client, place: str, headers: dict[str, str]) -> str:
    """What a stream says within some seconds; one of an event that does not exist breaks off."""
    text, end = "", time.monotonic() + 5
    with (
        suppress(httpx.ReadTimeout, httpx.RemoteProtocolError),
        client.stream("GET", place, headers=headers, timeout=3) as lines,
    ):
        for line in lines.iter_lines():
            text += line
            if time.monotonic() > end:
                break
    return text

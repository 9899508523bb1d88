"""Another visitor's session hash, files, stream and cancel."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import httpx
from playwright.sync_api import Request, expect

from tests.app.browsing import DESKTOP, Visitor, chromium
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
    """Guess at another's events; then take the session of a real page, and try to act as it."""
    outcome = Outcome("another visitor’s session hash, stream and cancel: guessed, then stolen")
    before = app.log.read_text().count("Traceback")
    url = f"{app.url}gradio_api/"
    with httpx.Client(timeout=60, headers=address(13)) as client:
        arguments = usual_arguments(app.url)
        sent = client.post(f"{url}call/render", json={"data": arguments}, headers=address(12))
        event = sent.json()["event_id"]
        guess = {"session_hash": "x", "fn_index": 0, "event_id": event[:-1] + "0"}
        told = client.post(f"{url}cancel", json=guess)
        outcome.expect(told.status_code < 500, f"cancel gave {told.status_code}")
        end = client.get(f"{url}call/render/{event}", headers=address(12)).text
        outcome.expect("event: complete" in end, "a stranger stopped the job")
        for name in ("0" * 32, event[:-1] + "0", event, "x", "%00", "../x"):
            told = client.get(f"{url}call/render/{name}")
            outcome.expect("complete" not in told.text, f"the event {name} has an answer")
            if name == event:  # its session is there for a while, and has nothing to tell
                continue
            told = client.get(f"{url}queue/data", params={"session_hash": name})
            outcome.expect("session_not_found" in told.text, f"the session {name} has a stream")
        state = client.get(f"{app.url}config").json()
        secret = [item for item in state["components"] if item["type"] == "state"]
        outcome.expect(not any(item["props"].get("value") for item in secret), "a state is told")
        steal(app, client, outcome)
    outcome.expect(app.log.read_text().count("Traceback") == before, "the log has a traceback")
    return outcome


def steal(app: Running, thief: httpx.Client, outcome: Outcome) -> None:
    """Ask for what a page's session has, stop it, end it; the page then works as before."""
    url, bodies = f"{app.url}gradio_api/", list[dict[str, Any]]()
    with chromium() as browser:
        page = browser.new_context(viewport=DESKTOP).new_page()
        page.on("request", lambda request: bodies.extend(joined(request)))
        visitor = Visitor(page).open(app.url)
        visitor.add(PAIR[0])
        expect(visitor.loras).to_have_count(1)
        body = bodies[-1]
        session = {"session_hash": body["session_hash"]}
        thief.get(app.url)  # with a cookie of its own
        for path in ("queue/join", "run/predict", "cancel", "component_server"):
            given = {**body, **session, "event_id": "x", "component_id": 1, "fn_name": "x"}
            told = thief.post(f"{url}{path}", json=given)
            outcome.expect(told.status_code in (403, 404), f"{path} gave {told.status_code}")
        for path in (f"heartbeat/{body['session_hash']}", "queue/data", "deep_link"):
            told = thief.get(f"{url}{path}", params=session)
            refused = told.status_code in (403, 404) or "session_not_found" in told.text
            outcome.expect(refused, f"{path} gave {told.status_code} {told.text[:80]}")
        visitor.add(PAIR[1])
        expect(visitor.loras).to_have_count(2)
        outcome.expect(not visitor.complaints, f"the page: {visitor.complaints}")


def joined(request: Request) -> list[dict[str, Any]]:
    """What a page has sent to begin an event, with its session."""
    begins = request.url.rstrip("?").endswith(("/queue/join", "/run/predict"))
    return [request.post_data_json] if begins else []

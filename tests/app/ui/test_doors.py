"""Which addresses answer, whose each session is, and what a guessed stream is told."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient

from app.settings.model import Settings
from app.storage.room import room_of
from app.ui.common import CLIENT
from app.ui.security.doors import NO_SUCH_ADDRESS, is_open
from app.ui.security.gradio_state import GradioState
from app.ui.security.guard import NOT_FETCHED, Guard
from app.ui.security.sessions import COOKIE, NOT_YOURS, Sessions, new_cookie
from app.ui.security.sites import Sites
from app.ui.security.uploads import Uploads

CLOSED = {  # some of Gradio's addresses that nobody here needs
    "/gradio_api/dev/reload",  # a stream that ends with its reader alone
    "/gradio_api/deep_link",  # writes what a session shows into a file, for whoever names it
    "/gradio_api/process_recording",
    "/gradio_api/vibe-code",
    "/monitoring",
    "/login",
}
NEEDED = {
    *("/", "/config", "/theme.css", "/static/{path:path}", "/assets/{path:path}"),
    *("/gradio_api/upload", "/gradio_api/queue/join", "/gradio_api/queue/data"),
    *("/gradio_api/call/{api_name}", "/gradio_api/call/{api_name}/{event_id}"),
    *("/gradio_api/heartbeat/{session_hash}", "/gradio_api/file={path_or_url:path}"),
    *("/gradio_api/cancel", "/gradio_api/info", "/gradio_api/run/{api_name}"),
}


def addresses(routes: list[Any], before: str = "") -> Iterator[tuple[str, str]]:
    """Every address of Gradio's with its methods."""
    for route in routes:
        if hasattr(route, "original_router"):  # FastAPI's own form of an included router
            yield from addresses(route.original_router.routes, before)
        for method in getattr(route, "methods", None) or ():
            yield method, before + route.path


def opens(method: str, path: str) -> bool:
    filled = re.sub(r"\{[^}]*\}", "a", path)
    return is_open({"type": "http", "method": method, "path": filled})


def test_only_what_is_needed_of_gradio_answers(blocks: Any, url: str) -> None:
    found = set(addresses(blocks.app.routes))
    paths = {path for _, path in found}
    open_paths = {path for method, path in found if opens(method, path)}
    assert paths >= NEEDED | CLOSED
    assert open_paths >= NEEDED and not open_paths & CLOSED
    for method, path in sorted(found):
        if path not in open_paths:
            place = url.rstrip("/") + re.sub(r"\{[^}]*\}", "a", path)
            told = httpx.request(method, place, timeout=60)
            assert told.status_code == 404, path
            assert told.text in ("", NO_SUCH_ADDRESS, NOT_FETCHED), path


def test_below_a_path_the_same_addresses_are_open() -> None:
    scope = {"type": "http", "method": "GET", "root_path": "/studio"}
    assert is_open({**scope, "path": "/studio/config"})
    assert not is_open({**scope, "path": "/studio/gradio_api/dev/reload"})
    assert not is_open({**scope, "path": "/studioconfig"})


def test_a_guessed_stream_ends_with_a_word(url: str) -> None:
    """Gradio breaks such a stream off, which is a protocol error here, and has a traceback."""
    told = httpx.get(f"{url}gradio_api/queue/data?session_hash=guess", timeout=30)
    assert (told.status_code, '"session_not_found": true' in told.text) == (200, True)
    told = httpx.get(f"{url}gradio_api/call/render/{'0' * 32}", timeout=30)
    assert (told.status_code, told.text[-1]) == (404, ".")


@pytest.fixture
def guarded(settings: Settings) -> Guard:
    """The guard of a public app behind one proxy, around an app that answers everything."""

    async def act(request: Request) -> Response:
        told = {"client": request.scope[CLIENT], "headers": dict(request.headers)}
        return JSONResponse(told) if "mcp" in request.url.path else HTMLResponse("taken")

    app = Starlette(routes=[Route("/{rest:path}", act, methods=["GET", "POST"])])
    uploads = Uploads(Path(settings.work), room_of(settings))
    return Guard(app, Sites(False, frozenset()), uploads, GradioState(gr.Blocks()), proxies=1)


def visitor(guard: Guard, address: str) -> TestClient:
    """A browser, which keeps cookies."""
    headers = {"x-forwarded-for": address}
    return TestClient(guard, base_url="http://127.0.0.1", headers=headers)


def test_a_stolen_session_is_of_no_use_in_another_browser(guarded: Guard) -> None:
    mine, thief = visitor(guarded, "203.0.113.1"), visitor(guarded, "203.0.113.2")
    for browser in (mine, thief):
        kept = browser.get("/").headers["set-cookie"]
        assert kept.startswith(COOKIE) and "HttpOnly" in kept and "SameSite=Lax" in kept
        assert "set-cookie" not in browser.get("/").headers
    body = {"session_hash": "word"}
    assert mine.post("/gradio_api/queue/join", json=body).text == "taken"
    for ask in (
        lambda: thief.post("/gradio_api/queue/join", json=body),
        lambda: thief.post("/gradio_api/run/predict", json=body),
        lambda: thief.post("/gradio_api/cancel", json=body),
        lambda: thief.get("/gradio_api/heartbeat/word"),
    ):
        assert (ask().status_code, ask().text) == (403, NOT_YOURS)
    moved = visitor(guarded, "203.0.113.3")
    moved.cookies = mine.cookies
    assert moved.get("/gradio_api/heartbeat/word").text == "taken"
    assert thief.post("/gradio_api/queue/join", json={"session_hash": "own"}).text == "taken"


def test_a_program_needs_no_cookie(guarded: Guard) -> None:
    for address in ("203.0.113.1", "203.0.113.2"):
        program = visitor(guarded, address)
        told = program.post("/gradio_api/queue/join", json={"session_hash": "program"})
        assert told.text == "taken"


def test_a_tool_is_called_in_the_name_of_whoever_asked_for_it(guarded: Guard) -> None:
    """The app's call to itself has these headers; another address in them would be believed."""
    asked = visitor(guarded, "203.0.113.1")
    asked.get("/")  # brings a cookie, which would bind the session that all tools share
    passed = asked.post("/gradio_api/mcp/", json={}).json()["headers"]
    assert not {"cookie", "x-forwarded-for", "forwarded", "x-real-ip"} & passed.keys()
    inner = TestClient(guarded, base_url="http://127.0.0.1", headers=passed)
    forged = {"x-forwarded-for": "203.0.113.9"}
    assert inner.post("/gradio_api/mcp/", json={}, headers=forged).json()["client"] == "203.0.113.1"
    guess = {"x-iteris-client": "word 203.0.113.1", **forged}
    told = TestClient(guarded, base_url="http://127.0.0.1", headers=guess)
    assert told.post("/gradio_api/mcp/", json={}).json()["client"] == "203.0.113.9"


def test_so_many_sessions_are_remembered() -> None:
    sessions = Sessions(most=2)
    assert all(sessions.admits(name, "browser", "here") for name in "abc")
    assert sessions.admits("a", "other", "there") and not sessions.admits("c", "other", "there")


@pytest.mark.parametrize(
    ("scheme", "framed", "kept"),
    [
        ("http", False, "SameSite=Lax"),
        ("https", False, "SameSite=Lax; Secure"),
        ("https", True, "SameSite=None; Secure; Partitioned"),
    ],
)
def test_the_cookie_fits_where_the_page_is_shown(scheme: str, framed: bool, kept: str) -> None:
    assert new_cookie({"type": "http", "scheme": scheme}, framed).endswith(f"HttpOnly; {kept}")


def test_the_stream_of_an_event_ends_once_its_end_was_sent(url: str) -> None:
    """Gradio would keep it open, and say nothing any more."""
    place = f"{url}gradio_api/call/methods"
    event = httpx.post(place, json={"data": []}, timeout=60).json()["event_id"]
    assert "event: complete" in httpx.get(f"{place}/{event}", timeout=60).text
    assert httpx.get(f"{place}/{event}", timeout=60).status_code == 404

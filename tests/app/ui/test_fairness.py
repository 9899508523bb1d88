"""One visitor leaves room for others: events of one client, and connections that are kept."""

from __future__ import annotations

import http.client
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
import httpx
import pytest
from gradio import networking
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from app.service import Studio
from app.settings.model import Settings
from app.storage.room import room_of
from app.ui.launch import launch
from app.ui.page import build
from app.ui.security.gradio_state import GradioState
from app.ui.security.guard import EVENTS_PER_CLIENT, Guard
from app.ui.security.sites import Sites
from app.ui.security.uploads import Uploads
from tests.app.conftest import free_port

with gr.Blocks() as CALLS:
    gr.Button("merge").click(lambda: None, api_name="merge")
GREEDY, OTHER = {"x-forwarded-for": "203.0.113.1"}, {"x-forwarded-for": "203.0.113.2"}


@pytest.fixture(scope="module")
def server(settings: Settings) -> Iterator[tuple[str, Any]]:
    """A public app behind one proxy, and its page."""
    public = replace(settings, public=True, proxies=1, home=None, free_base=False, port=free_port())
    page = build(Studio(public))
    yield launch(page, public, prevent_thread_lock=True), page
    page.close()


def test_one_client_does_not_fill_the_queue_of_events(server: tuple[str, Any]) -> None:
    """What is too much is refused at once, and another client's event is taken meanwhile."""
    url, page = server
    with httpx.Client(timeout=60) as client, ThreadPoolExecutor(16) as pool:

        def ask(headers: dict[str, str]) -> int:
            place = f"{url}gradio_api/call/methods"
            return client.post(place, json={"data": []}, headers=headers).status_code

        calls = [pool.submit(ask, GREEDY) for _ in range(48)]
        assert ask(OTHER) == 200
        assert {call.result() for call in calls} <= {200, 429}
    end = time.monotonic() + 60
    state = GradioState(page)
    while state.events("203.0.113.1") and time.monotonic() < end:
        time.sleep(0.1)
    assert state.events("203.0.113.1") == 0


class Crowded(GradioState):
    """A page whose every client has so many events."""

    def __init__(self, waiting: int) -> None:
        super().__init__(CALLS)
        self._waiting = waiting

    def events(self, client: str) -> int:
        return self._waiting


@pytest.mark.parametrize(("waiting", "status"), [(EVENTS_PER_CLIENT - 1, 200), (32, 429)])
@pytest.mark.parametrize("path", ["queue/join", "call/merge", "run/predict", "api/predict"])
def test_a_client_has_so_many_events_and_may_always_cancel(
    settings: Settings, path: str, waiting: int, status: int
) -> None:
    async def act(_request: Request) -> PlainTextResponse:
        return PlainTextResponse("")

    app = Starlette(routes=[Route("/gradio_api/{rest:path}", act, methods=["POST"])])
    uploads = Uploads(settings.work, room_of(settings))
    guard = Guard(app, Sites(False, frozenset()), uploads, Crowded(waiting))
    visitor = TestClient(guard, base_url="http://127.0.0.1")
    assert visitor.post(f"/gradio_api/{path}", json={}).status_code == status
    assert visitor.post("/gradio_api/cancel", json={}).status_code == 200


@pytest.mark.parametrize("idle", [0, 6])
def test_a_connection_outlives_the_patience_of_its_client(
    server: tuple[str, Any], idle: float
) -> None:
    """Clients drop a connection that was idle for 5 s; one that the app drops first is reset."""
    where = httpx.URL(server[0])
    line = http.client.HTTPConnection(where.host, where.port, timeout=60)
    line.auto_open = 0
    line.connect()
    for pause in (0, idle):
        time.sleep(pause)
        line.request("GET", "/health")
        assert line.getresponse().read() == b"ok"


def test_an_upload_goes_on_whatever_the_clock_says(settings: Settings, tmp_path: Path) -> None:
    """A part is taken for broken by what lay there before, not by its time."""
    uploads = Uploads(tmp_path, room_of(settings))
    own, other = tmp_path / "own", tmp_path / "other"
    with uploads.receiving("a", 1):
        own.write_bytes(b"")
        with uploads.receiving("b", 1):
            other.write_bytes(b"")
        assert own.exists()
        with uploads.receiving("c", 1):
            pass
        assert own.exists()
    assert not own.exists() and not other.exists()


def test_a_page_that_is_slow_at_first_does_not_end_the_app(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gradio asks its own page when it starts; a busy machine does not answer within its 3 s."""

    def too_slow(url: str, **_: object) -> None:
        raise httpx.ReadTimeout(url)

    monkeypatch.setattr(networking.httpx, "head", too_slow)
    page = build(Studio(settings))
    address = launch(page, replace(settings, port=free_port()), prevent_thread_lock=True)
    assert httpx.get(f"{address}health", timeout=60).text == "ok"
    page.close()

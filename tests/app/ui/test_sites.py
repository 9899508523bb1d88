"""Who may ask the app what: hosts, pages of other sites, proxies, and files elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import gradio as gr
import httpx
import pytest
from starlette.applications import Starlette
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from app.service import Studio
from app.settings.model import Settings
from app.storage.room import room_of
from app.ui.common import CLIENT
from app.ui.launch import launch
from app.ui.page import build
from app.ui.security.clients import Streams, client_of
from app.ui.security.gradio_state import GradioState
from app.ui.security.guard import Guard
from app.ui.security.sites import (
    BEHIND_PROXY,
    FOREIGN_HOST,
    FOREIGN_SITE,
    Sites,
    host_name,
)
from app.ui.security.uploads import Uploads
from tests.app.conftest import free_port

CALL = {"data": []}


def asked(url: str, method: str = "GET", path: str = "config", **headers: str) -> httpx.Response:
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    body = CALL if method == "POST" else None
    return httpx.request(method, url + path, headers=given, json=body, timeout=30)


@pytest.fixture(scope="module")
def server(settings: Settings) -> Iterator[str]:
    """A public app behind a proxy of its machine, under a name of its own."""
    public = replace(
        settings, public=True, hosts="studio.example", home=None, free_base=False, port=free_port()
    )
    page = build(Studio(public))
    yield launch(page, public, prevent_thread_lock=True)
    page.close()


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:7860", "127.0.0.1.evil.example", ""]
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_private_app_answers_only_as_this_machine(url: str, host: str, method: str) -> None:
    """DNS rebinding: a page's own name points at 127.0.0.1, so it is the app's own origin."""
    path = "config" if method == "GET" else "gradio_api/call/methods"
    answer = asked(url, method, path, host=host, origin=f"http://{host}")
    assert (answer.status_code, answer.text) == (403, FOREIGN_HOST)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "LOCALHOST", "[::1]"])
def test_every_name_of_this_machine_is_its_own(url: str, host: str) -> None:
    port = httpx.URL(url).port
    assert asked(url, host=f"{host}:{port}").status_code == 200


@pytest.mark.parametrize(
    "header", ["x-forwarded-for", "forwarded", "x-forwarded-host", "x-real-ip"]
)
def test_a_private_app_behind_a_proxy_names_the_setting(url: str, header: str) -> None:
    answer = asked(url, **{header: "203.0.113.7"})
    assert (answer.status_code, answer.text) == (403, BEHIND_PROXY)
    assert "--public on" in answer.text


@pytest.mark.parametrize(
    "path", ["call/methods", "upload", "queue/join", "cancel", "component_server"]
)
@pytest.mark.parametrize(
    "sent",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:1"},
        {"sec-fetch-site": "cross-site", "sec-fetch-mode": "cors"},
        {"sec-fetch-site": "same-site", "sec-fetch-mode": "navigate"},
    ],
    ids=str,
)
def test_a_page_of_another_site_changes_nothing(
    url: str, server: str, path: str, sent: dict[str, str]
) -> None:
    for app in (url, server):
        answer = asked(app, "POST", f"gradio_api/{path}", **sent)
        assert (answer.status_code, answer.text) == (403, FOREIGN_SITE)


def test_another_site_may_link_to_the_app_and_not_load_from_it(url: str) -> None:
    link = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    assert asked(url, path="", **link).status_code == 200
    assert asked(url, path="config", **link | {"sec-fetch-mode": "no-cors"}).status_code == 403


def test_programs_and_the_own_page_may_call(url: str, server: str) -> None:
    own = url.rstrip("/")
    for headers in ({}, {"origin": own, "sec-fetch-site": "same-origin"}):
        assert asked(url, "POST", "gradio_api/call/methods", **headers).status_code == 200
    there = {"host": "studio.example", "origin": "https://studio.example"}
    assert asked(server, "POST", "gradio_api/call/methods", **there).status_code == 200


def test_a_public_app_answers_to_the_names_that_it_was_given(server: str) -> None:
    forwarded = {"x-forwarded-for": "203.0.113.7"}
    assert asked(server, host="studio.example", **forwarded).status_code == 200
    assert asked(server, host="other.example", **forwarded).status_code == 403


def test_links_follow_no_forwarded_host_of_a_stranger(server: str) -> None:
    root = {
        host: asked(server, **{"x-forwarded-host": host}).json()["root"]
        for host in ("evil.example", "studio.example")
    }
    assert "evil" not in root["evil.example"]
    assert root["studio.example"] == "http://studio.example"


@pytest.mark.parametrize(
    "path",
    ["file=https://example.org/x", "file/https://example.org/x", "file=HTTP:%2f%2fexample.org/x",
     "file=ftp://example.org/x", "file=file:///etc/passwd", "proxy=https://example.org/x"],
)  # fmt: skip
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_the_app_fetches_nothing_from_elsewhere(url: str, path: str, method: str) -> None:
    assert asked(url, method, f"gradio_api/{path}").status_code == 404


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (
            "component_server",
            {"component_id": 99999, "fn_name": "ls", "session_hash": "a", "data": 1},
        ),
        (
            "component_server",
            {"component_id": "x", "fn_name": "ls", "session_hash": "a", "data": 1},
        ),
        ("queue/join", {"fn_index": 99999, "data": [], "session_hash": "a"}),
        ("queue/join", {"fn_index": -1, "data": [], "session_hash": "a"}),
        ("run/predict", {"fn_index": 99999, "data": []}),
        ("run/nothing", {"data": []}),
        ("call/nothing", {"data": []}),
        ("call/v2/nothing", {}),
    ],
)
def test_what_does_not_exist_is_not_found(url: str, path: str, body: dict[str, Any]) -> None:
    answer = httpx.post(f"{url}gradio_api/{path}", json=body, timeout=30)
    assert (answer.status_code, "no such" in answer.text) == (404, True)


def test_health_answers_under_any_name(url: str) -> None:
    answer = asked(url, path="health", host="10.0.0.5")
    assert (answer.status_code, answer.text) == (200, "ok")


def guarded(settings: Settings, private: bool) -> TestClient:
    """The guard around an app that tells who the client is, with Starlette's real login cookie."""

    async def act(request: Request) -> PlainTextResponse:
        return PlainTextResponse(request.scope[CLIENT])

    async def log_in(request: Request) -> PlainTextResponse:
        request.session["oauth_info"] = {"userinfo": {"preferred_username": "ada"}}
        return PlainTextResponse("")

    routes = [
        Route("/login/callback", log_in),
        Route("/gradio_api/queue/join", act, methods=["POST"]),
    ]
    uploads = Uploads(settings.work, room_of(settings))
    state = GradioState(gr.Blocks())
    guard = Guard(Starlette(routes=routes), Sites(private, frozenset()), uploads, state)
    return TestClient(SessionMiddleware(guard, secret_key="s"), base_url="http://127.0.0.1")


def test_a_client_is_a_login_or_an_address(settings: Settings) -> None:
    visitor = guarded(settings, private=False)
    assert visitor.post("/gradio_api/queue/join", json={}).text == "testclient"
    visitor.get("/login/callback")
    assert visitor.post("/gradio_api/queue/join", json={}).text == "login ada"


@pytest.mark.parametrize(
    ("forwarded", "proxies", "client"),
    [
        ("", 0, "192.0.2.1"),
        ("203.0.113.7", 0, "192.0.2.1"),
        ("10.1.1.1, 203.0.113.7", 1, "203.0.113.7"),
        ("203.0.113.7, 10.0.0.9", 2, "203.0.113.7"),
        ("203.0.113.7", 2, "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", 1, "2001:db8:1:2::/64"),
        ("::ffff:203.0.113.7", 1, "203.0.113.7"),
    ],
)
def test_a_client_cannot_write_its_own_address(forwarded: str, proxies: int, client: str) -> None:
    headers = [(b"x-forwarded-for", forwarded.encode())] if forwarded else []
    scope = {"type": "http", "headers": headers, "client": ("192.0.2.1", 5)}
    assert client_of(scope, proxies) == client


def test_a_client_has_so_many_streams_and_others_have_theirs() -> None:
    streams = Streams(per_client=2, overall=3)
    with streams.place("a") as one, streams.place("a") as two, streams.place("a") as three:
        assert (one, two, three) == (True, True, False)
        with streams.place("b") as other, streams.place("c") as beyond:
            assert (other, beyond) == (True, False)
    with streams.place("a") as again:
        assert again


@pytest.mark.parametrize(
    ("host", "name"),
    [("A.example:80", "a.example"), ("[::1]:7860", "::1"), ("a.example.", "a.example"), ("[", "")],
)
def test_the_name_in_a_host_header(host: str, name: str) -> None:
    assert host_name(host) == name

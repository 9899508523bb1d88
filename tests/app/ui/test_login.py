"""The log-in of a Space, as far as it goes without the Hub: an own provider stands in its place."""

from __future__ import annotations

import hmac
import json
import logging
import threading
import time
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from dataclasses import fields, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast
from urllib.parse import parse_qs, urlsplit

import gradio as gr
import httpx
import pytest
from gradio import oauth

from app.schemas.card import Card
from app.schemas.merge import FinishedMerge, MergeOrder, SelectedFile
from app.service import Studio
from app.ui.common import Values
from app.ui.handlers.export import ExportHandlers
from app.ui.handlers.form import Form
from app.ui.launch import launch
from app.ui.page import build
from app.ui.sections.export import export_section
from app.ui.sections.pictures import pictures_section
from tests.app.conftest import free_port

TOKEN = "hf_thisIsNobodysToken"
SPACE = {"SYSTEM": "spaces", "SPACE_ID": "me/studio", "SPACE_HOST": "me-studio.hf.space"}


class Provider(BaseHTTPRequestHandler):
    """Logs everybody in as ada: its addresses, its key, and a signed answer for the right code."""

    nonce = ""  # of the log-in that is under way

    def do_GET(self) -> None:
        here = f"http://{self.headers['host']}"
        places = {"authorization_endpoint": "authorize", "token_endpoint": "token"}
        told: dict[str, Any] = {
            "issuer": here,
            "jwks_uri": f"{here}/keys",
            "id_token_signing_alg_values_supported": ["HS256"],
            **{name: f"{here}/{place}" for name, place in places.items()},
        }
        self._tell({"keys": [KEY]} if self.path == "/keys" else told)

    def do_POST(self) -> None:
        sent = parse_qs(self.rfile.read(int(self.headers["content-length"])).decode())
        if sent["code"] != ["the-code"]:
            self._tell({"error": "invalid_grant"}, 400)
            return
        now = int(time.time())
        claims = {
            "iss": f"http://{self.headers['host']}", "aud": "the-space", "sub": "1", "iat": now,
            "exp": now + 600, "nonce": Provider.nonce, "name": "Ada", "preferred_username": "ada",
            "profile": "", "picture": "",
        }  # fmt: skip
        self._tell(
            {
                "access_token": TOKEN,
                "token_type": "bearer",
                "expires_in": 600,
                "id_token": signed(claims),
            }
        )

    def _tell(self, told: dict[str, Any], status: int = 200) -> None:
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(told).encode())

    def log_message(self, *_: object) -> None:
        """Nothing."""


def encoded(value: bytes) -> str:
    return urlsafe_b64encode(value).decode().rstrip("=")


SECRET = b"a key of thirty-two bytes and more"
KEY = {"kty": "oct", "kid": "1", "alg": "HS256", "k": encoded(SECRET)}


def signed(claims: dict[str, Any]) -> str:
    """A JSON web token (RFC 7519)."""
    parts = ({"alg": "HS256", "kid": "1"}, claims)
    text = ".".join(encoded(json.dumps(part).encode()) for part in parts)
    return f"{text}.{encoded(hmac.digest(SECRET, text.encode(), 'sha256'))}"


@pytest.fixture(scope="module")
def space(studio: Studio) -> Iterator[str]:
    """The app as on a Space with hf_oauth."""
    provider = ThreadingHTTPServer(("127.0.0.1", 0), Provider)
    threading.Thread(target=provider.serve_forever, daemon=True).start()
    given = {
        "OAUTH_CLIENT_ID": "the-space",
        "OAUTH_CLIENT_SECRET": "secret",
        "OAUTH_SCOPES": "openid profile contribute-repos",
        "OPENID_PROVIDER_URL": f"http://127.0.0.1:{provider.server_port}",
    }
    settings = replace(studio.settings, login=True, port=free_port())
    with pytest.MonkeyPatch.context() as patch:
        for name, value in SPACE.items():
            patch.setenv(name, value)
        for name, value in given.items():  # which Gradio has read when it was imported
            patch.setattr(oauth, name, value)
        page = build(Studio(settings))
        yield launch(page, settings, prevent_thread_lock=True)
        page.close()
    provider.shutdown()


def config(url: str) -> list[dict[str, Any]]:
    return httpx.get(f"{url}config").json()["components"]


def labels(url: str) -> set[str]:
    return {str(each["props"].get("label")) for each in config(url)}


def test_a_space_sends_its_visitors_to_the_hub_and_asks_for_little(space: str) -> None:
    assert "Token" not in labels(space)
    answer = httpx.get(f"{space}login/huggingface")
    target = urlsplit(answer.headers["location"])
    asked = parse_qs(target.query)
    assert (answer.status_code, target.path) == (302, "/authorize")
    assert asked["client_id"] == ["the-space"]
    assert asked["scope"] == ["openid profile contribute-repos"]
    assert asked["redirect_uri"][0].startswith("https://me-studio.hf.space/login/callback")


def cookie(answer: httpx.Response) -> dict[str, str]:
    """The cookie of an answer, which the browser would send over HTTPS alone."""
    return {"cookie": answer.headers.get("set-cookie", "session=").split(";")[0]}


def called_back(space: str, code: str = "the-code", **changed: str) -> httpx.Response:
    """Begin to log in, and come back from the provider with a code."""
    begun = httpx.get(f"{space}login/huggingface")
    asked = parse_qs(urlsplit(begun.headers["location"]).query)
    Provider.nonce = asked["nonce"][0]
    given = {"code": code, "state": asked["state"][0], **changed}
    return httpx.get(f"{space}login/callback", params=given, headers=cookie(begun), timeout=60)


def button(space: str, headers: dict[str, str]) -> str:
    """What the log-in button says to a visitor with this cookie."""
    told = httpx.get(f"{space}config").json()
    (load,) = (
        each["id"] for each in told["dependencies"] if each["api_name"] == "_check_login_status"
    )
    body = {"fn_index": load, "data": [], "session_hash": "abc"}
    httpx.post(f"{space}gradio_api/queue/join", json=body, headers=headers).raise_for_status()
    said = httpx.get(f"{space}gradio_api/queue/data?session_hash=abc", headers=headers, timeout=60)
    return said.text


def test_a_visitor_logs_in_and_out(space: str) -> None:
    """The whole round: to the provider, back with a code, a token for it, and the way out."""
    back = called_back(space)
    assert (back.status_code, back.headers["location"]) == (307, "/")
    kept = back.headers["set-cookie"].lower()
    assert "httponly" in kept and "secure" in kept
    assert "ada" in button(space, cookie(back))
    out = httpx.get(f"{space}logout", headers=cookie(back))
    assert "ada" not in button(space, cookie(out))
    assert "ada" not in button(space, {})


@pytest.mark.parametrize(
    "changed", [{"state": "a-stranger's"}, {"code": "guessed"}, {"state": ""}], ids=str
)
def test_a_log_in_that_was_not_begun_here_is_none(space: str, changed: dict[str, str]) -> None:
    back = called_back(space, **changed)
    assert "ada" not in button(space, cookie(back))
    assert TOKEN not in back.text and "Traceback" not in back.text


@pytest.mark.parametrize(
    "place", ["https://evil.example/x", "//evil.example/x", "////evil.example"]
)
def test_a_log_in_leads_to_this_app_alone(space: str, place: str) -> None:
    target = called_back(space, _target_url=place).headers["location"]
    assert target.startswith("/") and not target.startswith("//")


def test_the_hub_may_frame_a_space(space: str) -> None:
    policy = httpx.get(space).headers["content-security-policy"]
    hub = "https://huggingface.co https://*.huggingface.co https://*.hf.space"
    assert policy.endswith(f"frame-ancestors 'self' {hub}")


def test_the_log_in_is_no_endpoint(space: str) -> None:
    named = httpx.get(f"{space}gradio_api/info").json()["named_endpoints"]
    assert named.keys() == {"/merge", "/render", "/inspect", "/methods", "/suggest", "/tune"}


def test_an_own_machine_has_the_token_box_and_no_log_in(url: str) -> None:
    assert "Token" in labels(url)
    assert httpx.get(f"{url}login/huggingface").status_code == 404
    assert not any("Log in" in str(each["props"].get("value")) for each in config(url))


def finished(studio: Studio, pair: tuple[Path, Path]) -> tuple[ExportHandlers, Values]:
    """The downloads with a merge in them."""
    session, cards = studio.open_session(), list[Card]()
    for file in pair:
        cards.append(studio.add(session, file, cards))
    order = MergeOrder(tuple(map(SelectedFile.of, cards)), method="sum")
    (merged,) = (item for item in studio.merge(session, order) if isinstance(item, FinishedMerge))
    with gr.Blocks():
        files, asked = export_section(login=True)
        shown = pictures_section()
        states = {name: gr.State(None) for name in ("session", "merged")}
    rest = [field.name for field in fields(Form) if field.name not in states]
    form = Form(**states, **dict.fromkeys(rest, cast(Any, None)))
    values = {
        form.session: session,
        form.merged: merged,
        shown.drawn: [],
        files.rank: "exact",
        asked.name: "",
        files.form: "kohya",
        asked.dtype: "fp16",
        asked.hub.repo: "me/it",
        asked.hub.private: True,
    }
    return ExportHandlers(studio, form, shown, files, asked), values


def test_a_login_pushes_and_is_not_kept(
    studio: Studio, pair: tuple[Path, Path], caplog: pytest.LogCaptureFixture
) -> None:
    """The handler that Gradio calls with the login; the Hub is out of reach here."""
    take, values = finished(studio, pair)
    (said,) = take.push_as_visitor(values, None).values()
    assert "Nobody is logged in" in said
    with caplog.at_level(logging.DEBUG):
        login = gr.OAuthToken(token=TOKEN, scope="contribute-repos", expires_at=0)
        (said,) = take.push_as_visitor(values, login).values()
    assert "the Hub could not be reached" in said.value
    assert TOKEN not in caplog.text + said.value

"""The log-in of a Space, as far as it goes without the Hub: an own provider stands in its place."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from dataclasses import replace
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
    """Tells where to log in."""

    def do_GET(self) -> None:
        here = f"http://{self.headers['host']}"
        told = {"issuer": here, "authorization_endpoint": f"{here}/authorize"}
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(told).encode())

    def log_message(self, *_: object) -> None:
        """Nothing."""


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


def test_the_log_in_is_no_endpoint(space: str) -> None:
    named = httpx.get(f"{space}gradio_api/info").json()["named_endpoints"]
    assert named.keys() == {"/merge", "/render", "/inspect", "/methods"}


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
        files, asked, _ = export_section(login=True)
        shown, states = pictures_section(), [gr.State(None) for _ in range(4)]
    form = Form(*states, *[cast(Any, None)] * 5)
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

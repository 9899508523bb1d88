"""The endpoints as tools for language models, asked in their own protocol over HTTP."""

from __future__ import annotations

import sys
from base64 import b64decode
from collections.abc import Callable, Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import anyio
import gradio as gr
import httpx
import pytest
from jsonschema import Draft202012Validator
from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client
from mcp.types import CallToolResult, ImageContent, TextContent, Tool
from PIL import Image

from app.service import Studio
from app.ui.launch import launch
from app.ui.page import build
from merging.errors import MergeError
from tests.app.conftest import free_port

Ask = Callable[[str, dict[str, Any]], CallToolResult]


@pytest.fixture(scope="module")
def server(studio: Studio) -> Iterator[str]:
    """The app once more, with the switch on."""
    page = build(studio)
    yield launch(
        page, replace(studio.settings, mcp=True, port=free_port()), prevent_thread_lock=True
    )
    page.close()


def talk(server: str, say: Callable[[ClientSession], Any]) -> Any:
    """One conversation with it."""

    async def whole() -> Any:
        async with (
            streamable_http_client(f"{server}gradio_api/mcp/") as (read, write, *_),
            ClientSession(read, write) as session,
        ):
            await session.initialize()
            return await say(session)

    return anyio.run(whole)


@pytest.fixture(scope="module")
def tools(server: str) -> list[Tool]:
    return talk(server, lambda session: session.list_tools()).tools


@pytest.fixture(scope="module")
def ask(server: str) -> Ask:
    return lambda name, given: talk(server, lambda session: session.call_tool(name, given))


@pytest.fixture(scope="module")
def uploaded(server: str, pair: tuple[Path, Path]) -> list[str]:
    """Where the pair lies after an upload, as addresses."""
    files = [("files", (path.name, path.read_bytes())) for path in pair]
    paths = httpx.post(f"{server}gradio_api/upload", files=files).json()
    return [f"{server}gradio_api/file={path}" for path in paths]


def words(answer: CallToolResult) -> str:
    return " ".join(part.text for part in answer.content if isinstance(part, TextContent))


def test_the_tools_are_the_endpoints_and_explain_themselves(tools: list[Tool]) -> None:
    assert {tool.name for tool in tools} == {
        "merge",
        "render",
        "inspect",
        "methods",
        "suggest",
        "tune",
    }
    for tool in tools:
        assert tool.description and "Args:" not in tool.description
        Draft202012Validator.check_schema(tool.inputSchema)
        for name, schema in tool.inputSchema["properties"].items():
            assert schema.get("description"), f"{tool.name}: {name} is not explained"
            assert schema.get("type") or schema.get("enum"), f"{tool.name}: {name} has no type"


def test_files_are_looked_at_merged_and_drawn(ask: Ask, uploaded: list[str]) -> None:
    """What one tool gives, the next one takes."""
    assert "sks cat" in words(ask("inspect", {"file": uploaded[0]}))
    assert "arXiv:2411.15231" in words(ask("methods", {}))
    merged = ask("merge", {"files": uploaded, "method": "sum", "strengths": [0.9, 1.0]})
    assert not merged.isError, words(merged)
    address = words(merged).split()[0]
    assert address.endswith(".safetensors")
    drawn = ask("render", {"prompt": "a photo of a sks cat", "files": [address], "steps": 2})
    (picture,) = (part for part in drawn.content if isinstance(part, ImageContent))
    assert Image.open(BytesIO(b64decode(picture.data))).size == (128, 128)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"files": []}, "there is none yet"),
        ({"files": ["{0}"]}, "there is only one"),
        ({"files": ["{0}", "{1}"], "method": "magic"}, "magic"),
        ({"files": ["{0}", "{1}"], "strengths": ["much"]}, "much"),
        ({"files": ["http://127.0.0.1:9/x.safetensors"]}, ""),
        ({"files": ["{0}/../../../../../../etc/passwd"]}, ""),
    ],
)
def test_what_cannot_be_done_is_reported(
    ask: Ask, uploaded: list[str], given: dict[str, Any], said: str
) -> None:
    files = [file.format(*uploaded) for file in given["files"]]
    answer = ask("merge", given | {"files": files})
    assert answer.isError
    assert said in words(answer)
    assert "Traceback" not in words(answer)


def test_without_the_switch_there_are_no_tools(url: str) -> None:
    assert httpx.get(f"{url}gradio_api/mcp/").status_code == 404


def test_a_missing_package_is_reported(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mcp", None)
    with gr.Blocks() as page, pytest.raises(MergeError, match=r"mcp is on, but its package is not"):
        launch(page, replace(studio.settings, mcp=True))

"""Uploads that break off, that are too many, and that find no room."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from gradio.utils import get_upload_folder

from app.service import Studio
from app.settings.model import Settings
from app.storage.room import room_of
from app.ui.launch import launch
from app.ui.page import build
from tests.app.conftest import free_port

BOUNDARY = "----part"
HEAD = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\n'
PIECE = b"x" * 200_000


@pytest.fixture(scope="module")
def server(settings: Settings) -> Iterator[str]:
    """A public app in which one visitor may bring one MB."""
    small = replace(
        settings, public=True, home=None, free_base=False, max_client_mb=1, port=free_port()
    )
    page = build(Studio(small))
    yield launch(page, small, room_of(small), prevent_thread_lock=True)
    page.close()


def break_off(url: str) -> None:
    """Begin an upload of a GB, and hang up."""
    where = httpx.URL(url)
    with socket.create_connection((where.host, where.port or 80)) as line:
        line.sendall(
            f"POST /gradio_api/upload HTTP/1.1\r\nHost: {where.netloc.decode()}\r\n"
            f"Content-Type: multipart/form-data; boundary={BOUNDARY}\r\n"
            f"Content-Length: 1000000000\r\n\r\n{HEAD}".encode()
        )
        line.sendall(PIECE)
        assert eventually(parts), "the upload is being received"


def parts() -> list[Path]:
    """Uploads that are not whole."""
    return [path for path in Path(get_upload_folder()).glob("*") if path.is_file()]


def eventually(look: object) -> bool:
    """Whether it becomes true within some seconds."""
    assert callable(look)
    end = time.monotonic() + 30
    while not look() and time.monotonic() < end:
        time.sleep(0.05)
    return bool(look())


def test_an_upload_that_breaks_off_leaves_nothing(url: str) -> None:
    break_off(url)
    assert eventually(lambda: not parts())


def test_a_whole_upload_stays_and_its_name_leads_nowhere(url: str) -> None:
    answer = httpx.post(f"{url}gradio_api/upload", files={"files": ("../../a", PIECE)})
    (kept,) = map(Path, answer.json())
    assert kept.read_bytes() == PIECE
    assert kept.resolve().is_relative_to(Path(get_upload_folder()).resolve())
    assert eventually(lambda: not parts())


def test_a_visitor_without_room_is_refused_and_leaves_nothing(server: str) -> None:
    sent = [
        httpx.post(f"{server}gradio_api/upload", files={"files": ("a", PIECE)}) for _ in range(6)
    ]
    assert [answer.status_code for answer in sent] == [200] * 5 + [507]
    assert "1 MB, the limit of one visitor" in sent[-1].text
    chunked = (piece for piece in [HEAD.encode(), PIECE])
    kind = {"content-type": f"multipart/form-data; boundary={BOUNDARY}"}
    told = httpx.post(f"{server}gradio_api/upload", content=chunked, headers=kind)
    assert told.status_code == 507, "the length need not be declared"
    assert eventually(lambda: not parts())

"""What a hostile client may try over plain HTTP."""

from __future__ import annotations

import json
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest


def post(url: str, path: str, body: bytes) -> int:
    """The status of a POST."""
    request = Request(f"{url}gradio_api/{path}", body, {"content-type": "application/json"})
    try:
        with urlopen(request, timeout=20) as answer:
            return int(answer.status)
    except HTTPError as error:
        return error.code


def call(url: str, name: str, file: object) -> int:
    return post(url, f"call/{name}", json.dumps({"data": [[file]]}).encode())


@pytest.mark.parametrize("address", ["http://127.0.0.1/x.safetensors", "https://x/y", "file:///x"])
def test_files_by_address_are_refused(url: str, address: str) -> None:
    assert call(url, "merge", {"path": address, "meta": {"_type": "gradio.FileData"}}) == 422


def test_an_address_cannot_hide_behind_escapes(url: str) -> None:
    body = rb'{"data": [[{"p\u0061th": "http:\/\/127.0.0.1\/x"}]]}'
    assert post(url, "call/merge", body) == 422


def test_large_requests_are_refused(url: str) -> None:
    assert post(url, "call/merge", b'{"data": ["' + b"x" * (300 << 10) + b'"]}') == 413


def test_deep_requests_are_refused(url: str) -> None:
    assert post(url, "call/merge", b"[" * 200_000) == 422


def test_headers_are_set_and_the_schema_is_not_served(url: str) -> None:
    with urlopen(url, timeout=20) as answer:
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
    for path in ("openapi.json", "monitoring/summary", "gradio_api/runs"):
        with pytest.raises(HTTPError):
            urlopen(url + path, timeout=20)

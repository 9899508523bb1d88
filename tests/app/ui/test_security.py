"""What a hostile client may try over plain HTTP."""

from __future__ import annotations

import json
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from app.ui.security.headers import script_hashes


def post(url: str, path: str, body: bytes) -> int:
    """The status of a POST."""
    request = Request(f"{url}gradio_api/{path}", body, {"content-type": "application/json"})
    try:
        with urlopen(request, timeout=20) as answer:
            return int(answer.status)
    except HTTPError as error:
        return error.code


META = {"_type": "gradio.FileData"}


def outcome(url: str, name: str, file: object) -> str:
    """What a call comes to, in Gradio's own words."""
    body = json.dumps({"data": [file]}).encode()
    request = Request(f"{url}gradio_api/call/{name}", body, {"content-type": "application/json"})
    try:
        with urlopen(request, timeout=20) as answer:
            event = json.loads(answer.read())["event_id"]
        with urlopen(f"{url}gradio_api/call/{name}/{event}", timeout=20) as answer:
            return str(answer.read().decode())
    except HTTPError as error:
        return str(error.read().decode())


def call(url: str, name: str, file: object) -> int:
    return post(url, f"call/{name}", json.dumps({"data": [[file]]}).encode())


@pytest.mark.parametrize("address", ["http://127.0.0.1/x.safetensors", "https://x/y", "file:///x"])
def test_files_by_address_are_refused(url: str, address: str) -> None:
    assert call(url, "merge", {"path": address, "meta": {"_type": "gradio.FileData"}}) == 422


def test_an_address_of_our_own_is_no_way_to_other_files(url: str) -> None:
    """What this app served counts as that file, whatever the address is called; no other does."""
    for served in ("/etc/passwd", "/etc/../etc/passwd", "..%2f..%2fetc/passwd"):
        body = {"path": f"https://x.org/gradio_api/file={served}", "meta": META}
        assert "passwd" not in outcome(url, "inspect", body)


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
        policy = answer.headers["content-security-policy"]
        assert script_hashes(answer.read()) in policy, "the page's own scripts run"
    assert "'unsafe-inline'" not in policy.split("script-src")[1].split(";")[0]
    assert policy.endswith("frame-ancestors 'self'")
    for path in ("openapi.json", "monitoring/summary", "gradio_api/runs"):
        with pytest.raises(HTTPError):
            urlopen(url + path, timeout=20)

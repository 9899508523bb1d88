"""What is checked before Gradio: sizes, files by URL, requests from other sites; and headers."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import unquote

from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_JSON = 256 << 10
MAX_UPLOAD = 1 << 30
SERVED_URL = re.compile(r"https?://[^/]+/(?:[^?#]+/)?gradio_api/file=([^?#]+)")
HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)


class Guard:
    """ASGI middleware around Gradio; it does not touch Gradio's event streams."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *HEADERS]
            await send(message)

        if scope["method"] != "POST" or "/gradio_api/" not in scope["path"]:
            await self._app(scope, receive, send_with_headers)
        elif scope.get("session") and _from_another_site(scope):
            # The login is a cookie, which the browser also sends with requests from other sites.
            text = b"Requests from other sites are refused while a visitor is logged in."
            await _deny(send_with_headers, 403, text)
        elif scope["path"].rstrip("/").endswith("/upload"):
            await self._upload(scope, receive, send_with_headers)
        else:
            await self._event(scope, receive, send_with_headers)

    async def _upload(self, scope: Scope, receive: Receive, send: Send) -> None:
        """An upload: limited by its declared length, and by its real length while it arrives."""
        if _declared_length(scope) > MAX_UPLOAD:
            await _deny(send, 413, b"The upload is too large.")
            return
        received = 0

        async def receive_within_limit() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            return message if received <= MAX_UPLOAD else {"type": "http.disconnect"}

        await self._app(scope, receive_within_limit, send)

    async def _event(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A JSON request: read whole, checked, and sent on."""
        if _declared_length(scope) > MAX_JSON:
            await _deny(send, 413, b"The request is too large.")
            return
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if len(body) > MAX_JSON:
                await _deny(send, 413, b"The request is too large.")
                return
        checked_body = _with_local_paths(body)
        if checked_body is None:
            await _deny(send, 422, b"Upload the file first: files by URL are not accepted.")
            return
        headers = [pair for pair in scope["headers"] if pair[0] != b"content-length"]
        headers.append((b"content-length", str(len(checked_body)).encode()))
        sent = False

        async def replay() -> Message:
            nonlocal sent
            if sent:
                return await receive()
            sent = True
            return {"type": "http.request", "body": checked_body, "more_body": False}

        await self._app({**scope, "headers": headers}, replay, send)


def _declared_length(scope: Scope) -> int:
    """The declared length of the body; 0 if there is none, as for chunked bodies."""
    length = dict(scope["headers"]).get(b"content-length", b"0")
    return int(length) if length.isdigit() else 0


def _from_another_site(scope: Scope) -> bool:
    """Whether a page of another site sent it: all browsers set this header."""
    return dict(scope["headers"]).get(b"sec-fetch-site", b"") in (b"cross-site", b"same-site")


def _with_local_paths(body: bytes) -> bytes | None:
    """The body with URLs of files that this app serves replaced by their paths.

    None if a file is at another URL, which Gradio would download without a size limit, or if the
    body is no JSON. Gradio itself checks that a path is an upload or an output.
    """
    try:
        request = json.loads(body or b"null")
        changed = _convert_listed_urls(request)
        pending = [request]
        while pending:
            value = pending.pop()
            if isinstance(value, dict):
                if "://" in (url := str(value.get("path", ""))):
                    url_match = SERVED_URL.fullmatch(url)
                    if not url_match:
                        return None
                    value["path"], changed = unquote(url_match[1]), True
                pending.extend(value.values())
            elif isinstance(value, list):
                pending.extend(value)
        return json.dumps(request).encode() if changed else body
    except (ValueError, RecursionError):
        return None


def _convert_listed_urls(request: Any) -> bool:
    """Replace URLs in list arguments by file objects, in place; True if there were any.

    Gradio's MCP tools send such URLs as plain strings.
    """
    data = request.get("data") if isinstance(request, dict) else None
    lists = [value for value in data if isinstance(value, list)] if isinstance(data, list) else []
    places = [(values, i) for values in lists for i in range(len(values)) if _is_url(values[i])]
    for values, i in places:
        values[i] = {"path": values[i], "meta": {"_type": "gradio.FileData"}}
    return bool(places)


def _is_url(value: object) -> bool:
    return isinstance(value, str) and SERVED_URL.fullmatch(value) is not None


async def _deny(send: Send, status: int, text: bytes) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": text})

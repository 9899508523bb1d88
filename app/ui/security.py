"""What stands before Gradio: caps on bodies, no files by address, no borrowed login, headers."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import unquote

from starlette.types import ASGIApp, Message, Receive, Scope, Send

JSON_CAP = 256 << 10
UPLOAD_CAP = 1 << 30
SERVED = re.compile(r"https?://[^/]+/(?:[^?#]+/)?gradio_api/file=([^?#]+)")
HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)


class Guard:
    """Pure ASGI, so that Gradio's event streams pass through untouched."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer it here."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def sealed(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *HEADERS]
            await send(message)

        if scope["method"] != "POST" or "/gradio_api/" not in scope["path"]:
            await self._app(scope, receive, sealed)
        elif scope.get("session") and _from_another_site(scope):
            # A login travels in a cookie, which the browser sends whoever asks.
            await _deny(sealed, 403, b"Another site cannot act for a visitor who is logged in.")
        elif scope["path"].rstrip("/").endswith("/upload"):
            await self._upload(scope, receive, sealed)
        else:
            await self._event(scope, receive, sealed)

    async def _upload(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Files: bounded by their declared length, and chunked ones while they come."""
        if _declared(scope) > UPLOAD_CAP:
            await _deny(send, 413, b"The upload is too large.")
            return
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            return message if seen <= UPLOAD_CAP else {"type": "http.disconnect"}

        await self._app(scope, counted, send)

    async def _event(self, scope: Scope, receive: Receive, send: Send) -> None:
        """JSON: read whole, looked at, and replayed once."""
        if _declared(scope) > JSON_CAP:
            await _deny(send, 413, b"The request is too large.")
            return
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if len(body) > JSON_CAP:
                await _deny(send, 413, b"The request is too large.")
                return
        taken = _by_path(body)
        if taken is None:
            await _deny(send, 422, b"Upload the file first; files by address are not taken.")
            return
        headers = [each for each in scope["headers"] if each[0] != b"content-length"]
        headers.append((b"content-length", str(len(taken)).encode()))
        replayed = False

        async def replay() -> Message:
            nonlocal replayed
            if replayed:
                return await receive()
            replayed = True
            return {"type": "http.request", "body": taken, "more_body": False}

        await self._app({**scope, "headers": headers}, replay, send)


def _declared(scope: Scope) -> int:
    """The announced length of the body, 0 where none is announced."""
    length = dict(scope["headers"]).get(b"content-length", b"0")
    return int(length) if length.isdigit() else 0


def _from_another_site(scope: Scope) -> bool:
    """Whether a page of another site sent it, as all browsers tell; programs have no cookies."""
    return dict(scope["headers"]).get(b"sec-fetch-site", b"") in (b"cross-site", b"same-site")


def _by_path(body: bytes) -> bytes | None:
    """The body with the files that this app served named by their paths; None if one is elsewhere.

    Gradio would fetch that, without a limit on its size. Of a path it checks that it is an upload.
    """
    try:
        whole = json.loads(body or b"null")
        moved = _listed(whole)
        pending = [whole]
        while pending:
            value = pending.pop()
            if isinstance(value, dict):
                if "://" in (address := str(value.get("path", ""))):
                    served = SERVED.fullmatch(address)
                    if not served:
                        return None
                    value["path"], moved = unquote(served[1]), True
                pending.extend(value.values())
            elif isinstance(value, list):
                pending.extend(value)
        return json.dumps(whole).encode() if moved else body
    except (ValueError, RecursionError):
        return None  # no JSON that the page or a client would send


def _listed(whole: Any) -> bool:
    """Make files of the addresses in lists; Gradio's tools for language models send them bare.

    True if there were any.
    """
    data = whole.get("data") if isinstance(whole, dict) else None
    lists = [each for each in data if isinstance(each, list)] if isinstance(data, list) else []
    found = [(given, place) for given in lists for place, each in enumerate(given) if _served(each)]
    for given, place in found:
        given[place] = {"path": given[place], "meta": {"_type": "gradio.FileData"}}
    return bool(found)


def _served(value: object) -> bool:
    return isinstance(value, str) and SERVED.fullmatch(value) is not None


async def _deny(send: Send, status: int, text: bytes) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": text})

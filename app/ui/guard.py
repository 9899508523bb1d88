"""What stands before Gradio: a cap on request bodies, no files by reference, security headers."""

from __future__ import annotations

import json

from starlette.types import ASGIApp, Message, Receive, Scope, Send

JSON_CAP = 256 << 10
UPLOAD_CAP = 1 << 30
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
        if _names_remote_file(body):
            await _deny(send, 422, b"Upload the file first; files by address are not taken.")
            return
        replayed = False

        async def replay() -> Message:
            nonlocal replayed
            if replayed:
                return await receive()
            replayed = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self._app(scope, replay, send)


def _declared(scope: Scope) -> int:
    """The announced length of the body, 0 where none is announced."""
    length = dict(scope["headers"]).get(b"content-length", b"0")
    return int(length) if length.isdigit() else 0


def _names_remote_file(body: bytes) -> bool:
    """True if a file is given by address: Gradio would fetch it, without a limit on its size."""
    try:
        pending = [json.loads(body or b"null")]
    except (ValueError, RecursionError):
        return True  # no JSON that the page or a client would send
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            if "://" in str(value.get("path", "")):
                return True
            pending.extend(value.values())
        elif isinstance(value, list):
            pending.extend(value)
    return False


async def _deny(send: Send, status: int, text: bytes) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": text})

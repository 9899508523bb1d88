"""What is checked before Gradio: who asks, how much is sent, and what is named."""

from __future__ import annotations

import errno
import json
import re
from collections.abc import Callable

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.ui.common import CLIENT, logged_sentence
from app.ui.security.bodies import BadBody, read_json, use_local_paths
from app.ui.security.clients import Streams, client_of, for_tools, is_stream, is_tool
from app.ui.security.doors import NO_SUCH_ADDRESS, address, is_open
from app.ui.security.gradio_state import GradioState
from app.ui.security.headers import PageHeaders
from app.ui.security.sessions import NOT_YOURS, Sessions, browser_of, new_cookie
from app.ui.security.sites import Sites
from app.ui.security.uploads import NoRoom, Uploads

HEALTH = "/health"  # answers as soon as the app serves, at next to no cost
METRICS = "/metrics"
MAX_JSON = 256 << 10
MAX_UPLOAD = 1 << 30
# Gradio would download what is behind a file's or a proxy's path with a scheme.
REMOTE_FILE = re.compile(r"/gradio_api/(?:file[=/].*:/|proxy=)", re.IGNORECASE | re.DOTALL)
BEGINNING = re.compile(r"/gradio_api/(?:queue/join|call/|run/|api/)")  # what begins an event
EVENTS_PER_CLIENT = 32  # in Gradio's queue or at work, beside which others have theirs
NOT_FETCHED = "Files elsewhere on the web are not fetched."
TOO_LARGE = "The request is too large."
GONE = "What this stream told about has ended, or was never begun."
CROWDED = "Too many pages or calls are open from your address: close some of them."


class Guard:
    """ASGI middleware around Gradio; it does not touch Gradio's event streams."""

    def __init__(
        self,
        app: ASGIApp,
        sites: Sites,
        uploads: Uploads,
        state: GradioState,
        proxies: int = 0,
        framed_by_space: bool = False,
        metrics: Callable[[], bytes] | None = None,
    ) -> None:
        """``metrics`` makes what /metrics answers; without it there is no such path."""
        self._app = app
        self._sites = sites
        self._uploads = uploads
        self._state = state
        self._proxies = proxies
        self._framed_by_space = framed_by_space
        self._metrics = metrics
        self._streams = Streams()
        self._sessions = Sessions()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # Gradio has no websockets
            await send({"type": "websocket.close", "code": 1008})
            return
        fresh = not (self._sites.private or browser_of(scope))
        cookie = new_cookie(scope, self._framed_by_space) if fresh else ""
        answer = PageHeaders(send, self._framed_by_space, cookie)
        try:
            await self._checked(scope, receive, answer.send)
        except Exception as error:
            if answer.started:
                raise
            await _report(answer.send, error)

    async def _checked(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == HEALTH and scope["method"] in ("GET", "HEAD"):
            await _answer(send, 200, "ok")  # a probe may use any name of the machine
            return
        if refusal := self._sites.refusal(scope):
            await _answer(send, 403, refusal)
            return
        if scope["path"] == METRICS and self._metrics:
            await _answer(send, 200, self._metrics().decode())
            return
        client = client_of(scope, self._proxies)
        headers = self._sites.trusted_headers(scope)
        headers = for_tools(headers, client) if is_tool(scope) else headers
        scope = {**scope, "headers": headers, CLIENT: client}
        if REMOTE_FILE.search(scope["path"]):
            await _answer(send, 404, NOT_FETCHED)
        elif not is_open(scope):
            await _answer(send, 404, NO_SUCH_ADDRESS)
        elif is_stream(scope):
            with self._streams.place(client) as free:
                await (self._lasting(scope, receive, send) if free else _answer(send, 429, CROWDED))
        elif scope["method"] != "POST":
            await self._app(scope, receive, send)
        elif address(scope).rstrip("/").endswith("/upload"):
            await self._upload(scope, receive, send)
        elif BEGINNING.search(scope["path"]) and self._is_crowded(client):
            await _answer(send, 429, CROWDED)
        else:
            await self._event(scope, receive, send)

    def _is_crowded(self, client: str) -> bool:
        """Whether a client has as many events as leave others theirs; nobody else is at home."""
        return not self._sites.private and self._state.events(client) >= EVENTS_PER_CLIENT

    def _admits(self, scope: Scope, request: object = None) -> bool:
        """Whether the sessions that a request is about are this browser's, or nobody's."""
        browser, client = browser_of(scope), scope[CLIENT]
        sessions = self._state.sessions(scope, request)
        return all(self._sessions.admits(session, browser, client) for session in sessions)

    async def _lasting(self, scope: Scope, receive: Receive, send: Send) -> None:
        """An answer that stays open: that of a tool, or the stream of what is there."""
        if scope["method"] == "POST":
            await self._event(scope, receive, send)
        elif not self._state.has_stream(scope):
            await self._gone(scope, send)
        elif not self._admits(scope):
            await _answer(send, 403, NOT_YOURS)
        else:
            await self._app(scope, receive, send)

    async def _gone(self, scope: Scope, send: Send) -> None:
        """The end of a page's stream as Gradio's clients know it, or 404 for that of a call."""
        if address(scope) != "/gradio_api/queue/data":
            await _answer(send, 404, GONE)
            return
        told = {"msg": "unexpected_error", "message": GONE, "session_not_found": True}
        text = f"data: {json.dumps({**told, 'success': False})}\n\n"
        await _answer(send, 200, text, b"text/event-stream")

    async def _upload(self, scope: Scope, receive: Receive, send: Send) -> None:
        """An upload: limited by its declared length, and by its real length while it arrives."""
        if _declared_length(scope) > MAX_UPLOAD:
            await _answer(send, 413, "The upload is too large.")
            return
        with self._uploads.receiving(scope[CLIENT], _declared_length(scope)) as take:
            received = 0

            async def receive_within_limit() -> Message:
                nonlocal received
                message = await receive()
                size = len(message.get("body", b""))
                received += size
                take(size)
                return message if received <= MAX_UPLOAD else {"type": "http.disconnect"}

            await self._app(scope, receive_within_limit, send)

    async def _event(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A JSON request: read whole, checked, and sent on."""
        body = await _whole_body(scope, receive)
        if body is None:
            await _answer(send, 413, TOO_LARGE)
            return
        try:
            request = read_json(body)
            if use_local_paths(request):
                body = json.dumps(request).encode()
        except BadBody as error:
            await _answer(send, 422, str(error))
            return
        if not self._state.knows(scope, request):
            await _answer(send, 404, "This app has no such endpoint or component.")
            return
        if not self._admits(scope, request):
            await _answer(send, 403, NOT_YOURS)
            return
        headers = [pair for pair in scope["headers"] if pair[0] != b"content-length"]
        headers.append((b"content-length", str(len(body)).encode()))
        await self._app({**scope, "headers": headers}, _replaying(body, receive), send)


async def _whole_body(scope: Scope, receive: Receive) -> bytes | None:
    """The body; None if it is too large. Of a broken connection, what has come."""
    body, more = b"", True
    while more:
        if max(len(body), _declared_length(scope)) > MAX_JSON:
            return None
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body if len(body) <= MAX_JSON else None


def _replaying(body: bytes, receive: Receive) -> Receive:
    """A receive function that gives the body once, then what comes after it."""
    sent = False

    async def replay() -> Message:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


def _declared_length(scope: Scope) -> int:
    """The declared length of the body; 0 if there is none, as for chunked bodies."""
    length = Headers(scope=scope).get("content-length", "0")
    return int(length) if length.isascii() and length.isdigit() and len(length) < 20 else 0


async def _report(send: Send, error: Exception) -> None:
    """Answer for an exception of Gradio's: with 507 if there is no room, else with 500."""
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    sentence = logged_sentence(error, "a request failed")
    await _answer(send, 507 if full or isinstance(error, NoRoom) else 500, sentence)


async def _answer(send: Send, status: int, text: str, kind: bytes = b"text/plain") -> None:
    headers = [(b"content-type", kind + b"; charset=utf-8")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": text.encode()})

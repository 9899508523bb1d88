"""Headers that tell browsers what a page of this app may do, and who may frame it."""

from __future__ import annotations

import re
from base64 import b64encode
from hashlib import sha256

from starlette.types import Message, Send

INLINE_SCRIPT = re.compile(rb"<script(?![^>]*\ssrc=)[^>]*>(.*?)</script>", re.DOTALL)
SPACE_FRAMES = "https://huggingface.co https://*.huggingface.co https://*.hf.space"
POLICY = (
    "default-src 'self'",
    # Gradio compiles the templates of its HTML components in the browser.
    "script-src 'self' 'unsafe-eval'{hashes}",
    "style-src 'self' 'unsafe-inline'",
    "img-src 'self' data: blob:",
    "font-src 'self' data:",
    "media-src 'self' data: blob:",
    "connect-src 'self' data: blob:",
    "worker-src 'self' blob:",
    "object-src 'none'",
    "base-uri 'self'",
    "form-action 'self'",
    "frame-ancestors 'self'{frames}",
)


class PageHeaders:
    """Sends answers with the headers; one for each answer.

    A page is held back until it is whole: its policy lists the hashes of its own inline scripts, so
    that no other inline script runs.
    """

    def __init__(self, send: Send, framed_by_space: bool, cookie: str = "") -> None:
        """``cookie`` is for a browser that has none; a page brings it."""
        self._send = send
        self._cookie = ((b"set-cookie", cookie.encode()),) if cookie else ()
        self._frames = f" {SPACE_FRAMES}" if framed_by_space else ""
        self._start: Message | None = None  # of a page, until its body is whole
        self._body = b""
        self.started = False  # whether an answer has begun

    async def send(self, message: Message) -> None:
        """Pass a message of the answer on."""
        if message["type"] == "http.response.start":
            self.started = True
            if _is_page(message):
                self._start = message
                return
            message = self._with_headers(message, "")
        elif self._start and message["type"] == "http.response.body":
            self._body += message.get("body", b"")
            if message.get("more_body", False):
                return
            start = self._with_headers(self._start, script_hashes(self._body))
            await self._send({**start, "headers": [*start["headers"], *self._cookie]})
            self._start, message = None, {**message, "body": self._body}
        await self._send(message)

    def _with_headers(self, start: Message, hashes: str) -> Message:
        policy = "; ".join(POLICY).format(hashes=hashes, frames=self._frames)
        added = (
            (b"x-content-type-options", b"nosniff"),
            (b"referrer-policy", b"no-referrer"),
            (b"content-security-policy", policy.encode()),
        )
        return {**start, "headers": [*start.get("headers", ()), *added]}


def script_hashes(page: bytes) -> str:
    """The inline scripts of a page, as a policy lists them."""
    digests = [sha256(script).digest() for script in INLINE_SCRIPT.findall(page)]
    return "".join(f" 'sha256-{b64encode(digest).decode()}'" for digest in digests)


def _is_page(start: Message) -> bool:
    kind = dict(start.get("headers", ())).get(b"content-type", b"")
    return bool(kind.startswith(b"text/html"))

"""Who sends a request, and how many streams each client keeps open.

A tool of a language model is a call of the app's to itself, with the headers of whoever asked for
it. Such a call names the client by a word that nobody else knows, and has no header by which
somebody could pass for another.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from ipaddress import IPv6Address, ip_address

from starlette.datastructures import Headers
from starlette.types import Scope

STREAMS_PER_CLIENT = 64  # an open page has two; an office may share one address
STREAMS = 600  # of all clients
# Answers that stay open: heartbeats, the events of jobs, the progress of uploads.
STREAM_PATHS = ("/heartbeat/", "/queue/data", "/call/", "/upload_progress")
TOOLS = "/gradio_api/mcp"  # a call of a tool is answered when its job is done
TOLD = "x-iteris-client"
WORD = secrets.token_urlsafe(16)
NOT_PASSED_ON = (b"cookie", b"x-forwarded-for", b"forwarded", b"x-real-ip", TOLD.encode())


def client_of(scope: Scope, proxies: int) -> str:
    """The client's name: a login if there is one, else the address.

    Of a call of the app's to itself it is the client who asked for it.
    ``proxies`` is the number of reverse proxies in front of the app: so many entries from the right
    of X-Forwarded-For are theirs to write. Without any, it is the peer, or what uvicorn took from
    a proxy on this machine.
    """
    word, _, told = Headers(scope=scope).get(TOLD, "").partition(" ")
    if secrets.compare_digest(word.encode(), WORD.encode()):
        return told
    session = scope.get("session") or {}
    if login := (session.get("oauth_info") or {}).get("userinfo", {}).get("preferred_username"):
        return f"login {login}"
    hops = Headers(scope=scope).get("x-forwarded-for", "").split(",")
    if proxies and len(hops) >= proxies and hops[-proxies].strip():
        return _network(hops[-proxies].strip())
    peer = scope.get("client")
    return _network(peer[0]) if peer else "unknown"


def _network(address: str) -> str:
    """An address; of IPv6 its /64, which one household has whole."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address[:64]
    if isinstance(parsed, IPv6Address):
        if parsed.ipv4_mapped:
            return str(parsed.ipv4_mapped)
        return str(IPv6Address(int(parsed) >> 64 << 64)) + "/64"
    return str(parsed)


def is_tool(scope: Scope) -> bool:
    """Whether a request is for the tools of language models."""
    return TOOLS in scope["path"]


def for_tools(headers: Iterable[tuple[bytes, bytes]], client: str) -> list[tuple[bytes, bytes]]:
    """The headers of such a request, which the app's call to itself will have too."""
    told = (TOLD.encode(), f"{WORD} {client}".encode("latin-1", "replace"))
    return [*(pair for pair in headers if pair[0].lower() not in NOT_PASSED_ON), told]


class Streams:
    """Counts the open streams of each client."""

    def __init__(self, per_client: int = STREAMS_PER_CLIENT, overall: int = STREAMS) -> None:
        self._per_client = per_client
        self._overall = overall
        self._open: Counter[str] = Counter()

    @contextmanager
    def place(self, client: str) -> Iterator[bool]:
        """Whether another stream may be opened; it counts until the block ends."""
        free = self._open[client] < self._per_client and self._open.total() < self._overall
        self._open[client] += free
        try:
            yield free
        finally:
            self._open[client] -= free
            if not self._open[client]:
                del self._open[client]


def is_stream(scope: Scope) -> bool:
    """Whether the answer to this request stays open."""
    reads = scope["method"] == "GET" and any(part in scope["path"] for part in STREAM_PATHS)
    return reads or is_tool(scope)

"""Who sends a request, and how many streams each client keeps open."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv6Address, ip_address

from starlette.datastructures import Headers
from starlette.types import Scope

STREAMS_PER_CLIENT = 64  # an open page has two; an office may share one address
STREAMS = 600  # of all clients
# Answers that stay open: heartbeats, the events of jobs, the progress of uploads.
STREAM_PATHS = ("/heartbeat/", "/queue/data", "/call/", "/upload_progress")
TOOLS = "/gradio_api/mcp"  # a call of a tool is answered when its job is done


def client_of(scope: Scope, proxies: int) -> str:
    """The client's name: a login if there is one, else the address.

    ``proxies`` is the number of reverse proxies in front of the app: so many entries from the right
    of X-Forwarded-For are theirs to write. Without any, it is the peer, or what uvicorn took from
    a proxy on this machine.
    """
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
    return reads or TOOLS in scope["path"]

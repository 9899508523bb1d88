"""Which hosts the app answers to, and which web pages may send requests to it.

Without this, a page of any site could read and change a private app: by DNS rebinding, where its
own name points at 127.0.0.1, or by requests that a browser sends from that page.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import Scope

from app.settings.model import LOOPBACK, Settings

FORWARDING = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip")
READING = ("GET", "HEAD", "OPTIONS")
BEHIND_PROXY = (
    "This app is private, but the request came through a proxy, so all its visitors would share "
    "one library and one history. Whoever runs the app: start it with --public on "
    "(ITERIS_PUBLIC=on, or public in settings.toml)."
)
FOREIGN_HOST = (
    "This app does not answer under this name. Open it at http://127.0.0.1 with its port. Whoever "
    "runs the app can allow the name with --hosts (ITERIS_HOSTS, or hosts in settings.toml), or "
    "open the app to everybody with --public on (ITERIS_PUBLIC=on)."
)
FOREIGN_SITE = "Requests from pages of other sites are refused."


@dataclass(frozen=True)
class Sites:
    """The hosts of an app; ``refusal`` says why a request is refused."""

    private: bool
    names: frozenset[str]  # hosts beside the loopback ones; in a public app without any, all

    @classmethod
    def of(cls, settings: Settings, environ: Mapping[str, str] = os.environ) -> Sites:
        """The hosts that the settings name, and that of the Space."""
        names = {*settings.host_names, environ.get("SPACE_HOST", "").lower()} - {""}
        return cls(settings.private, frozenset(names))

    def refusal(self, scope: Scope) -> str:
        """Why this request is refused; "" if it is not."""
        headers = Headers(scope=scope)
        if self.private and any(name in headers for name in FORWARDING):
            return BEHIND_PROXY
        if not self._answers_to(host_name(headers.get("host", ""))):
            return FOREIGN_HOST
        return FOREIGN_SITE if self._from_another_site(scope.get("method", ""), headers) else ""

    def _answers_to(self, host: str) -> bool:
        if not self.private and not self.names:
            return True
        return host in LOOPBACK or host in self.names

    def _from_another_site(self, method: str, headers: Headers) -> bool:
        """Whether a page of another site sent it. Following a link to this app is allowed."""
        opened = method in READING and headers.get("sec-fetch-mode") == "navigate"
        if headers.get("sec-fetch-site") in ("cross-site", "same-site") and not opened:
            return True
        origin = headers.get("origin")
        return bool(origin) and method not in READING and not self._is_own(origin or "", headers)

    def _is_own(self, origin: str, headers: Headers) -> bool:
        host = urlsplit(origin).netloc.lower()
        return host == headers.get("host", "").lower() or host_name(host) in self.names

    def trusted_headers(self, scope: Scope) -> list[tuple[bytes, bytes]]:
        """The headers without a forwarded host that is no name of ours, which Gradio would use."""
        return [
            (name, value)
            for name, value in scope["headers"]
            if name != b"x-forwarded-host" or host_name(value.decode("latin-1")) in self.names
        ]


def host_name(host: str) -> str:
    """A Host header without its port, in lower case; "" for what is none."""
    try:
        return (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return ""

"""Whose Gradio's sessions are: a stolen session hash is of no use in another browser.

Gradio knows a page by a word that the page makes up. Whoever has that word may read the page's
stream, stop its events, and act as the page, with its files.
"""

from __future__ import annotations

import re
import secrets
from collections import OrderedDict
from http.cookies import CookieError, SimpleCookie

from starlette.datastructures import Headers
from starlette.types import Scope

COOKIE = "iteris-browser"
VALUE = re.compile(r"[\w-]{22}", re.ASCII)
MOST = 10_000  # sessions that are remembered
NOT_YOURS = "This page’s session belongs to another browser: reload the page."


class Sessions:
    """The browser and the client that each session began with.

    Either of them will do: an address may change within a visit, and of two tabs that are opened
    at once, the second may replace the cookie of the first. A program without cookies has its
    session for itself as long as it keeps the word to itself.
    """

    def __init__(self, most: int = MOST) -> None:
        self._owners: OrderedDict[str, tuple[str, str]] = OrderedDict()
        self._most = most

    def admits(self, session: str, browser: str, client: str) -> bool:
        """Whether a session may be used; whoever uses it first, with a cookie, has it."""
        if not browser and session not in self._owners:
            return True
        first = self._owners.setdefault(session, (browser, client))
        self._owners.move_to_end(session)
        if len(self._owners) > self._most:
            self._owners.popitem(last=False)
        return browser == first[0] or client == first[1]


def browser_of(scope: Scope) -> str:
    """The value of the browser's cookie; "" without one."""
    try:
        cookies = SimpleCookie(Headers(scope=scope).get("cookie", ""))
    except CookieError:
        return ""
    value = cookies[COOKIE].value if COOKIE in cookies else ""
    return value if VALUE.fullmatch(value) else ""


def new_cookie(scope: Scope, framed_by_space: bool) -> str:
    """A Set-Cookie header for a browser without one; it goes when the browser is closed.

    The page of a Space is in a frame of another site, where only such a partitioned cookie lasts.
    """
    secure = "; Secure" if scope.get("scheme") == "https" else ""
    kept = "; SameSite=None; Secure; Partitioned" if framed_by_space else f"; SameSite=Lax{secure}"
    return f"{COOKIE}={secrets.token_urlsafe(16)}; Path=/; HttpOnly{kept}"

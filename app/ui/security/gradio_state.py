"""What Gradio has at the moment: its endpoints and components, events and streams."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs

import gradio as gr
from starlette.types import Scope

from app.ui.common import CLIENT
from app.ui.security.doors import address

CALL = re.compile(r"/gradio_api/(?:call(?:/v2)?|run|api)/([^/]+)/?")
EVENT = re.compile(r"/gradio_api/call/(?:v2/)?[^/]+/([^/]+)")
HEARTBEAT = re.compile(r"/gradio_api/heartbeat/([^/]+)")


class GradioState:
    """Looks into the queue of a page."""

    def __init__(self, demo: gr.Blocks) -> None:
        self._demo = demo

    def knows(self, scope: Scope, request: Any) -> bool:
        """Whether a path and its JSON name events and components of the page."""
        called = CALL.fullmatch(address(scope))
        names = {function.api_name for function in self._demo.fns.values()}
        if called and called[1] not in names | {"predict"}:
            return False
        if not isinstance(request, dict):
            return True
        events, components = request.get("fn_index"), request.get("component_id")
        return (events is None or events in self._demo.fns) and (
            components is None or components in self._demo.blocks
        )

    def events(self, client: str) -> int:
        """How many events of a client are in the queue or at work."""
        queue = self._demo._queue
        waiting = [
            event for each in queue.event_queue_per_concurrency_id.values() for event in each.queue
        ]
        working = [event for events in queue.active_jobs for event in events or ()]
        return sum(event.request.scope.get(CLIENT) == client for event in (*waiting, *working))

    def has_stream(self, scope: Scope) -> bool:
        """False for the stream of an event or a session that is not there, or no longer.

        An event is there until its end has been told.
        """
        queue = self._demo._queue
        if event := EVENT.fullmatch(address(scope)):
            pending = queue.pending_event_ids_session.values()
            return event[1] in queue.event_ids_to_events or any(event[1] in ids for ids in pending)
        asked = _asked_session(scope)
        return asked is None or asked in queue.pending_messages_per_session

    def sessions(self, scope: Scope, request: Any = None) -> Iterator[str]:
        """The sessions that a request is about."""
        for match in (EVENT.fullmatch(address(scope)), HEARTBEAT.fullmatch(address(scope))):
            if match:
                yield self._session_of(match[1])
        if asked := _asked_session(scope):
            yield asked
        if isinstance(request, dict):
            yield from filter(None, [_text(request.get("session_hash"))])
            yield from map(self._session_of, filter(None, [_text(request.get("event_id"))]))

    def _session_of(self, event: str) -> str:
        """The session of an event; an event of a program that names none is its own session."""
        queue = self._demo._queue
        if known := queue.event_ids_to_events.get(event):
            return str(known.session_hash)
        pending = queue.pending_event_ids_session.items()
        return next((session for session, events in pending if event in events), event)


def _asked_session(scope: Scope) -> str | None:
    """The session whose stream is asked for; None if it is not about that."""
    if address(scope) != "/gradio_api/queue/data":
        return None
    return parse_qs(scope.get("query_string", b"").decode("latin-1")).get("session_hash", [""])[0]


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""

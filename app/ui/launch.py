"""Start the web server, with the same options at home, in a container and in the tests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
from gradio.utils import get_space, get_upload_folder
from starlette.middleware import Middleware

from app.settings.model import Settings
from app.storage.room import Room, room_of
from app.ui.security.gradio_state import GradioState
from app.ui.security.guard import Guard
from app.ui.security.sites import Sites
from app.ui.security.uploads import Uploads
from app.ui.theme import STYLES, script, theme
from merging.errors import MergeError

# Gradio keeps what so many visits have on their pages, from 25 kB each (measured with 6.31).
MAX_SESSIONS = 500
# Clients give an idle connection up after 5 s or later; uvicorn does after 5 s too, and on a busy
# machine it then resets connections on which the next request is already under way.
KEEP_ALIVE = 75  # s
FREE_THREADS = 64  # for events beside the jobs in line, each of which holds one


def launch(
    demo: gr.Blocks,
    settings: Settings,
    room: Room | None = None,
    metrics: Callable[[], bytes] | None = None,
    **options: Any,
) -> str:
    """Start serving and return the local URL; ``options`` go to ``Blocks.launch``.

    ``room`` counts the uploads, together with what else is counted there; ``metrics`` makes the
    figures for Prometheus, which are served if the settings say so.

    MergeError if the MCP server is switched on but its package is missing.
    """
    if settings.mcp:
        _check_mcp()
    demo.queue(max_size=4 * settings.max_waiting, api_open=True)
    _, address, _ = demo.launch(
        server_name=settings.host,
        server_port=settings.port,
        root_path=settings.root_path or None,
        theme=theme(),
        css_paths=STYLES,
        js=script(),
        show_error=False,
        ssr_mode=False,
        pwa=False,
        share=False,
        run_history=False,
        enable_monitoring=False,
        strict_cors=True,
        mcp_server=settings.mcp,
        max_file_size=settings.max_mb * 2**20,
        max_threads=settings.max_waiting + settings.slots + FREE_THREADS,
        state_session_capacity=MAX_SESSIONS,
        footer_links=["api"],
        app_kwargs={
            "middleware": [_guard(demo, settings, room or room_of(settings), metrics)],
            "openapi_url": None,
        },
        quiet=True,
        # Else Gradio asks its own page once, and ends the app if that takes more than 3 s.
        _frontend=False,
        **options,
    )
    demo.server.config.timeout_keep_alive = KEEP_ALIVE  # every new connection reads it
    _lighten_visits(demo)
    if demo.mcp_server_obj:
        # For clients without progress, Gradio's own function puts all outputs into one text.
        demo.mcp_server_obj._execute_tool_without_progress = _tool_outputs
    return address


def _guard(
    demo: gr.Blocks, settings: Settings, room: Room, metrics: Callable[[], bytes] | None
) -> Middleware:
    """The guard of this page."""
    on_space = get_space() is not None
    return Middleware(
        Guard,
        sites=Sites.of(settings),
        uploads=Uploads(Path(get_upload_folder()), room),
        state=GradioState(demo),
        proxies=settings.proxies or int(on_space),
        framed_by_space=on_space,
        metrics=metrics if settings.metrics else None,
    )


def _lighten_visits(demo: gr.Blocks) -> None:
    """Keep Gradio from describing every widget anew for each visit, and each call of the API.

    That took 0.1 s and 0.75 MB. Only its deep links need it, and this page has none.
    """
    visits: Any = demo.app.state_holder
    visits.blocks = SimpleNamespace(default_config=demo.default_config, blocks={})


async def _tool_outputs(job: Any) -> list[Any]:
    """The outputs of a tool call, as a list."""
    outputs = await asyncio.to_thread(job.result)
    return list(outputs) if isinstance(outputs, tuple) else [outputs]


def _check_mcp() -> None:
    """MergeError if the package is missing: Gradio would only print that."""
    try:
        import_module("mcp")
    except ImportError as error:
        raise MergeError(
            "mcp is on, but its package is not installed: pip install -r requirements.txt, or "
            "turn mcp off."
        ) from error

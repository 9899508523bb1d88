"""How the page is served: the same switches for a person's machine, a container and the tests."""

from __future__ import annotations

import asyncio
from importlib import import_module
from typing import Any

import gradio as gr
from starlette.middleware import Middleware

from app.settings.model import Settings
from app.ui.security import Guard
from app.ui.theme import STYLE, theme
from merging.errors import MergeError


def launch(demo: gr.Blocks, settings: Settings, **more: Any) -> str:
    """Start serving; returns the local address. ``more`` goes to ``Blocks.launch`` as it is.

    MergeError if tools are asked for and cannot be had.
    """
    if settings.mcp:
        _check_mcp()
    demo.queue(max_size=4 * settings.max_waiting, api_open=True)
    _, address, _ = demo.launch(
        server_name=settings.host,
        server_port=settings.port,
        theme=theme(),
        css_paths=[STYLE],
        show_error=False,
        ssr_mode=False,
        pwa=False,
        share=False,
        run_history=False,
        enable_monitoring=False,
        strict_cors=True,
        mcp_server=settings.mcp,
        max_file_size=settings.max_mb * 2**20,
        footer_links=["api", "settings"],
        app_kwargs={"middleware": [Middleware(Guard)], "openapi_url": None},
        quiet=True,
        **more,
    )
    if demo.mcp_server_obj:
        # Gradio's own packs several outputs into one text for clients that ask for no progress.
        demo.mcp_server_obj._execute_tool_without_progress = _outputs
    return address


async def _outputs(job: Any) -> list[Any]:
    """What a tool's call gives, one by one."""
    given = await asyncio.to_thread(job.result)
    return list(given) if isinstance(given, tuple) else [given]


def _check_mcp() -> None:
    """Gradio would only print that the package is missing."""
    try:
        import_module("mcp")
    except ImportError as error:
        raise MergeError(
            "mcp is on, but its package is not installed: pip install -r requirements.txt, or "
            "turn mcp off."
        ) from error

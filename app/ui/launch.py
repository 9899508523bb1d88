"""Start the web server, with the same options at home, in a container and in the tests."""

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


def launch(demo: gr.Blocks, settings: Settings, **options: Any) -> str:
    """Start serving and return the local URL; ``options`` go to ``Blocks.launch``.

    MergeError if the MCP server is switched on but its package is missing.
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
        **options,
    )
    if demo.mcp_server_obj:
        # For clients without progress, Gradio's own function puts all outputs into one text.
        demo.mcp_server_obj._execute_tool_without_progress = _tool_outputs
    return address


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

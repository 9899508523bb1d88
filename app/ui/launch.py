"""How the page is served: the same switches for a person's machine, a container and the tests."""

from __future__ import annotations

from typing import Any

import gradio as gr
from starlette.middleware import Middleware

from app.settings import Settings
from app.ui.guard import Guard
from app.ui.theme import STYLE, theme


def launch(demo: gr.Blocks, settings: Settings, **more: Any) -> str:
    """Start serving; returns the local address. ``more`` goes to ``Blocks.launch`` as it is."""
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
        max_file_size=settings.max_megabytes * 2**20,
        footer_links=["api", "settings"],
        app_kwargs={"middleware": [Middleware(Guard)], "openapi_url": None},
        quiet=True,
        **more,
    )
    return address

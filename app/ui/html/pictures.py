"""Small pictures inside the page's HTML."""

from __future__ import annotations

from base64 import b64encode
from functools import cache
from pathlib import Path


@cache
def data_url(path: Path) -> str:
    """A small PNG that does not change, as a data URL."""
    return f"data:image/png;base64,{b64encode(path.read_bytes()).decode()}"

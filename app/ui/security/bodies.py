"""What the JSON body of a request may hold: files of this app only, and known endpoints."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import unquote

SERVED_URL = re.compile(r"https?://[^/]+/(?:[^?#]+/)?gradio_api/file=([^?#]+)")


def read_json(body: bytes) -> Any:
    """The parsed body, None for an empty one. ValueError if it is no JSON, or nested too deep."""
    try:
        return json.loads(body or b"null")
    except RecursionError as error:
        raise ValueError("nested too deep") from error


def use_local_paths(request: Any) -> bool:
    """Replace URLs of files that this app serves by their paths, in place; True if it did.

    ValueError if a file is at another URL, which Gradio would download without a size limit. Gradio
    itself checks that a path is an upload or an output.
    """
    changed = _convert_listed_urls(request)
    pending = [request]
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            if "://" in (url := str(value.get("path", ""))):
                url_match = SERVED_URL.fullmatch(url)
                if not url_match:
                    raise ValueError("a file at another address")
                value["path"], changed = unquote(url_match[1]), True
            pending.extend(value.values())
        elif isinstance(value, list):
            pending.extend(value)
    return changed


def _convert_listed_urls(request: Any) -> bool:
    """Replace URLs in list arguments by file objects, in place; True if there were any.

    Gradio's MCP tools send such URLs as plain strings.
    """
    data = request.get("data") if isinstance(request, dict) else None
    lists = [value for value in data if isinstance(value, list)] if isinstance(data, list) else []
    places = [(values, i) for values in lists for i in range(len(values)) if _is_url(values[i])]
    for values, i in places:
        values[i] = {"path": values[i], "meta": {"_type": "gradio.FileData"}}
    return bool(places)


def _is_url(value: object) -> bool:
    return isinstance(value, str) and SERVED_URL.fullmatch(value) is not None

"""What the JSON body of a request may hold: files of this app only, and known endpoints."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import unquote

SERVED_URL = re.compile(r"https?://[^/]+/(?:[^?#]+/)?gradio_api/file=([^?#]+)")


class BadBody(ValueError):
    """What is wrong with a body, as a sentence for the client."""


def read_json(body: bytes) -> Any:
    """The parsed body, None for an empty one.

    BadBody if it is no JSON, is nested too deep, or has half a character: such text cannot be
    written into any file.
    """
    try:
        request = json.loads(body or b"null")
        json.dumps(request, ensure_ascii=False).encode()
        return request
    except (ValueError, RecursionError) as error:
        raise BadBody("The request is no JSON, or has a text that is not valid Unicode.") from error


def use_local_paths(request: Any) -> bool:
    """Replace URLs of files that this app serves by their paths, in place; True if it did.

    BadBody if a file is at another URL, which Gradio would download without a size limit. Gradio
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
                    raise BadBody("Upload the file first: files by URL are not accepted.")
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

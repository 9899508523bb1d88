"""What every part of the page's form shares: the types of a handler's values and updates."""

from __future__ import annotations

import errno
from typing import Any

from merging.request import MergeRequest

Values = dict[Any, Any]  # component → value, as Gradio hands it to a handler
Updates = dict[Any, Any]  # component → what to change
QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
AT_ONCE: dict[str, Any] = {"queue": False, **QUIET}
DEFAULTS = {field.name: field.default for field in MergeRequest.__dataclass_fields__.values()}
OUR_FAULT = "Something broke on our side, not on yours; please report what you did just before."
DISK_FULL = "The disk here is full: remove old files or pictures, and try again."


def said_of(error: Exception) -> str:
    """One sentence on what nobody foresaw."""
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    return DISK_FULL if full else OUR_FAULT

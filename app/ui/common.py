"""What every part of the page's form shares: the types of a handler's values and updates."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr

from app.ui.html import fragments as markup
from merging.errors import FileError, MergeError

log = logging.getLogger(__name__)
Values = dict[Any, Any]  # component → value, as Gradio hands it to a handler
Updates = dict[Any, Any]  # component → what to change
QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
AT_ONCE: dict[str, Any] = {"queue": False, **QUIET}
OUR_FAULT = "Something broke on our side, not on yours; please report what you did just before."
DISK_FULL = "The disk here is full: remove old files or pictures, and try again."


def error_sentence(error: Exception) -> str:
    """One sentence for the visitor, whatever went wrong: without a folder of this machine."""
    system = error.system if isinstance(error, FileError) else error
    if isinstance(system, OSError) and system.errno in (errno.ENOSPC, errno.EDQUOT):
        return DISK_FULL
    if not isinstance(error, MergeError):
        return OUR_FAULT
    named = getattr(system, "filename", None)
    return str(error).replace(f"{Path(named).parent}{os.sep}", "") if named else str(error)


def tried(place: gr.HTML, work: Callable[[], Updates]) -> Updates:
    """What the work changes, or in ``place`` why it could not be done."""
    try:
        return work()
    except MergeError as error:
        said = error_sentence(error)
    except Exception as error:
        log.exception("a wish could not be fulfilled")
        said = error_sentence(error)
    return {place: gr.HTML(markup.problem_list([said]), visible=True)}

"""Shared by the whole page: types of a handler's values and updates, event settings, errors."""

from __future__ import annotations

import errno
import logging
import os
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import gradio as gr
from gradio.context import LocalContext

from app.ui.html import fragments as markup
from merging.errors import FileError, MergeError

log = logging.getLogger(__name__)
Values = dict[Any, Any]  # component → value; what Gradio passes to a handler
Updates = dict[Any, Any]  # component → new value or properties; what a handler returns
QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
AT_ONCE: dict[str, Any] = {"queue": False, **QUIET}
# A click on a part with data-choice, anywhere in a component's HTML, is its event "select".
CHOICES = """element.addEventListener("click", (event) => {
  const chosen = event.ctrlKey || event.metaKey ? null : event.target.closest("[data-choice]");
  if (!chosen) return;
  event.preventDefault(); // of a link
  trigger("select", { choice: Number(chosen.dataset.choice) });
});"""
# To what has just been opened, unless a problem is said where the visitor is.
TO_STAGE = "() => iteris.toStage()"
INTERNAL_ERROR = "An internal error, not your mistake. Please report what you did just before."
CLIENT = "iteris.client"  # the key of the client's name in an ASGI scope
NOT_WRITABLE = (
    "The folder of this app cannot be read or written: whoever runs it must allow that, or choose "
    "another one (ITERIS_WORK, ITERIS_HOME)."
)
OUT_OF_MEMORY = (
    "This machine ran out of memory: use fewer LoRAs, prompts or layers, or a smaller picture."
)
DISK_FULL = "The disk of this machine is full: delete old files or pictures, and try again."


def current_client() -> str:
    """The client whose event is being handled, as the guard named it; "" outside of events."""
    request = LocalContext.request.get(None)
    scope = request.request.scope if request and request.request else {}
    return str(scope.get(CLIENT, ""))


def served(widget: gr.HTML, path: Path) -> str:
    """Where the browser finds a file: Gradio serves its own copy, as for a gallery."""
    copy = widget.move_resource_to_block_cache(path)
    return f"gradio_api/file={quote(str(copy))}"


def user_change(widget: Any) -> Any:
    """The event of a change by the user: of a slider only once it is let go, of a file a drop."""
    if isinstance(widget, gr.Slider):
        return widget.release
    return widget.upload if isinstance(widget, gr.File) else widget.input


def error_sentence(error: Exception) -> str:
    """One sentence for the visitor, without the path of any folder on this machine."""
    system = error.system if isinstance(error, FileError) else error
    if isinstance(system, OSError) and system.errno in (errno.ENOSPC, errno.EDQUOT):
        return DISK_FULL
    if isinstance(system, OSError) and system.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return NOT_WRITABLE
    if _is_out_of_memory(error):
        return OUT_OF_MEMORY
    if not isinstance(error, MergeError):
        return INTERNAL_ERROR
    path = getattr(system, "filename", None)
    text = str(error).replace(f"{Path(path).parent}{os.sep}", "") if path else str(error)
    # Visitors' files are in the folder for temporary files, under names that nobody else may know.
    return re.sub(rf"{re.escape(tempfile.gettempdir())}[^\s“”'\"]*{re.escape(os.sep)}", "", text)


def _is_out_of_memory(error: Exception) -> bool:
    """Python's MemoryError, torch's on a GPU, or the RuntimeError of its allocator on the CPU."""
    text = str(error)
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or (isinstance(error, RuntimeError) and "can't allocate memory" in text)
    )


def logged_sentence(error: Exception, what: str) -> str:
    """`error_sentence`, and a line in the log: with a traceback if it is a mistake of ours."""
    sentence = error_sentence(error)
    if sentence == INTERNAL_ERROR:
        log.error("%s", what, exc_info=error)
    elif not isinstance(error, MergeError):  # for whoever runs the app: a disk, or memory
        log.warning("%s: %s", what, error)
    return sentence


def updates_or_problem(message: gr.HTML, work: Callable[[], Updates]) -> Updates:
    """The updates of ``work``, or one that shows its error in ``message``."""
    try:
        return work()
    except Exception as error:  # noqa: BLE001 -- it is logged
        sentence = logged_sentence(error, "a handler failed")
    return {message: gr.HTML(markup.problem_list([sentence]), visible=True)}

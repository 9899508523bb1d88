"""Start the app: ``python -m app [--port 7999] …``."""

from __future__ import annotations

import logging
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import NoReturn

from app.log import start_log
from app.settings.load import flags, with_file, with_page
from app.settings.model import Settings
from app.settings.workplace import workplace
from merging.errors import MergeError

WAKE_SECONDS = 0.1  # how often the program checks whether it should end


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until interrupted, then end the process; for wrong settings, print why and return 2."""
    start_log()
    stop_requested = catch_signals()
    try:
        overrides = os.environ | flags(arguments)
        environ = with_file(overrides)
        with workplace(environ) as work:
            serve(with_page(Settings.from_environment(work, environ), overrides), stop_requested)
    except (MergeError, OSError) as error:
        print(f"iteris-studio: {error}", file=sys.stderr)
        return 2
    return end_process()


def end_process() -> NoReturn:
    """End now, whatever threads there are.

    A worker may still be inside a native call that cannot be interrupted, as when torch loads a
    model; Python would wait for Gradio's threads and then abort in that call. Nothing is lost:
    files appear whole or not at all, and the indexes are SQLite's.
    """
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def catch_signals() -> Callable[[], bool]:
    """Handle Ctrl+C and SIGTERM; returns a function: whether one of them was received.

    The handler raises nothing, for in an import or while the server starts an exception may be
    turned into another one. A second signal ends the program at once.
    """
    received: list[int] = []

    def handle(number: int, _frame: object) -> None:
        received.append(number)
        signal.signal(number, signal.SIG_DFL)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, handle)
    return lambda: bool(received)


def serve(settings: Settings, stop_requested: Callable[[], bool]) -> None:
    """Build the page and serve it until the program should end."""
    prepare(settings)
    start_log(settings.logs)
    from app.service import Studio
    from app.storage.sessions import Store, start_janitor
    from app.ui.launch import launch
    from app.ui.page import build

    studio = Studio(settings)
    uploads = Store(settings.work / "gradio", 3600 * settings.keep_hours)
    start_janitor([studio.store, uploads])
    page = build(studio)
    address = launch(page, settings, studio.room, studio.metrics.text, prevent_thread_lock=True)
    start_log(settings.logs)
    print(f"IterIS Studio is at {address} (Ctrl+C ends it)", flush=True)
    try:
        studio.warm_up()
        while not stop_requested():
            time.sleep(WAKE_SECONDS)
    finally:
        studio.close()


def prepare(settings: Settings) -> None:
    """Set the environment variables that Gradio reads when it is imported."""
    settings.work.mkdir(parents=True, exist_ok=True)
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    if settings.login:
        os.environ["SYSTEM"] = "spaces"  # otherwise Gradio logs visitors in as a test user
    os.environ.setdefault("GRADIO_TEMP_DIR", str(settings.work / "gradio"))
    # Gradio serves files only from the folder for temporary files: the visits' folder becomes it.
    tempfile.tempdir = str(settings.work)


if __name__ == "__main__":
    sys.exit(main())

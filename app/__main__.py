"""Start the app: ``python -m app [--port 7999] …``."""

from __future__ import annotations

import logging
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence

from app.settings.load import flags, with_file, with_page
from app.settings.model import Settings, workplace
from merging.errors import MergeError

WAKE_SECONDS = 0.1  # how often the program looks whether it was told to end


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until interrupted; 2 for what the user can mend, with one sentence."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    ended = told_to_end()
    try:
        above = os.environ | flags(arguments)
        environ = with_file(above)
        with workplace(environ) as work:
            serve(with_page(Settings.from_environment(work, environ), above), ended)
    except (MergeError, OSError) as error:
        print(f"iteris-studio: {error}", file=sys.stderr)
        return 2
    return 0


def told_to_end() -> Callable[[], bool]:
    """Whether the program was asked to end since: by Ctrl+C, or by SIGTERM as a container is.

    Nothing is raised where the signal meets the program: in the midst of an import or of the
    server's start an exception can be turned into another one. Asked twice, it ends at once.
    """
    asked: list[int] = []

    def note(number: int, _frame: object) -> None:
        asked.append(number)
        signal.signal(number, signal.SIG_DFL)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, note)
    return lambda: bool(asked)


def serve(settings: Settings, ended: Callable[[], bool]) -> None:
    """Build the page over the service and stay until the program is told to end."""
    prepare(settings)
    from app.service import Studio
    from app.storage.sessions import Store, start_janitor
    from app.ui.launch import launch
    from app.ui.page import build

    studio = Studio(settings)
    uploads = Store(settings.work / "gradio", 3600 * settings.keep_hours)
    start_janitor([studio.store, uploads])
    page = build(studio)
    address = launch(page, settings, prevent_thread_lock=True)
    print(f"IterIS Studio is at {address} (Ctrl+C ends it)", flush=True)
    try:
        studio.warm_up()
        while not ended():
            time.sleep(WAKE_SECONDS)
    finally:
        studio.close()


def prepare(settings: Settings) -> None:
    """What Gradio reads from the environment when it is imported: so it must come before that."""
    settings.work.mkdir(parents=True, exist_ok=True)
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    if settings.login:
        os.environ["SYSTEM"] = "spaces"  # or Gradio logs everybody in as nobody, for trying it out
    os.environ.setdefault("GRADIO_TEMP_DIR", str(settings.work / "gradio"))
    # Gradio hands out files from the folder for temporary files only, and the visits' are not there
    # when the operator has named another one.
    tempfile.tempdir = str(settings.work)


if __name__ == "__main__":
    sys.exit(main())

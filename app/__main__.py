"""Start the app: ``python -m app [--port 7999] …``."""

from __future__ import annotations

import logging
import os
import signal
import sys
import tempfile
from collections.abc import Sequence

from app.config import flags, with_file
from app.settings import Settings, workplace
from merging.errors import MergeError


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until interrupted; 2 for what the user can mend, with one sentence."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    # A container is told to end by this signal; what is removed at the end must be removed then.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        environ = with_file(os.environ | flags(arguments))
        with workplace(environ) as work:
            serve(Settings.from_environment(work, environ))
    except (MergeError, OSError) as error:
        print(f"iteris-studio: {error}", file=sys.stderr)
        return 2
    return 0


def serve(settings: Settings) -> None:
    """Build the page over the service and block until the program is told to end."""
    prepare(settings)
    from app.service import Studio
    from app.storage import Store, start_janitor
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
        page.block_thread()
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

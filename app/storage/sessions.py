"""Where visitors' files live: one folder per visit, closed to others, removed by age."""

from __future__ import annotations

import os
import secrets
import shutil
import threading
import time
from pathlib import Path

from merging.errors import MergeError
from merging.io.files import peft_config_path


class Store:
    """Folders named by unguessable tokens under one root; the names inside are ours."""

    def __init__(self, root: Path, keep_seconds: float) -> None:
        self._root = root
        self._keep = keep_seconds
        self._root.mkdir(parents=True, exist_ok=True)

    def open(self) -> str:
        """A new visit: its token."""
        token = secrets.token_urlsafe(16)
        (self._root / token).mkdir(mode=0o700)
        return token

    def is_open(self, token: str) -> bool:
        """Whether there is such a visit."""
        return bool(token) and (self._root / token).is_dir()

    def folder(self, token: str) -> Path:
        """The visit's folder, kept alive by this very look; MergeError once it is gone."""
        path = self._root / token
        if not self.is_open(token):
            raise MergeError("Your session has expired: reload the page and add your files again.")
        os.utime(path)
        return path

    def new_folder(self, token: str) -> Path:
        """A fresh folder inside the visit's, for one job or one file."""
        path = self.folder(token) / secrets.token_urlsafe(8)
        path.mkdir(mode=0o700)
        return path

    def keep_copy(self, token: str, source: Path) -> Path:
        """The visit's own copy of an uploaded file, a hard link where the disk allows it.

        Two visitors who upload the same bytes share one path in Gradio's cache, so nothing of ours
        may rest on that path.
        """
        target = self.new_folder(token) / "lora.safetensors"
        keep_copy(source, target)
        if peft_config_path(source).is_file():
            keep_copy(peft_config_path(source), peft_config_path(target))
        return target

    def sweep(self) -> int:
        """Remove what nobody has touched for too long; returns how many entries went."""
        oldest = time.time() - self._keep
        old = [path for path in self._root.iterdir() if _touched(path) < oldest]
        for path in old:
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        return len(old)


def keep_copy(source: Path, target: Path) -> None:
    """The whole file or none: a hard link where the disk allows it, else a copy that is renamed."""
    try:
        os.link(source.resolve(), target)  # the Hub's cache is one of links to files
    except FileExistsError:
        return  # somebody else has just put it there, under a name that says what it is
    except OSError:
        part = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
        try:
            shutil.copyfile(source, part)
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)


def _touched(path: Path) -> float:
    """When it was last touched; never old if another sweep has just taken it."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return float("inf")


def start_janitor(stores: list[Store], every_seconds: float = 600) -> threading.Event:
    """Sweep the stores now and then, in a thread that ends with the program or with the event."""
    done = threading.Event()

    def body() -> None:
        while not done.wait(every_seconds):
            for store in stores:
                store.sweep()

    for store in stores:
        store.sweep()
    threading.Thread(target=body, name="iteris-janitor", daemon=True).start()
    return done

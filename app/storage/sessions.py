"""Folders of visitors' files: one per visit, private, removed by age."""

from __future__ import annotations

import os
import secrets
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

from merging.errors import MergeError
from merging.io.files import peft_config_path


class Store:
    """Folders with unguessable tokens as names, in one root folder.

    An entry is old when its time of use has stayed the same for too long by a clock that never
    jumps. The machine's own clock is compared with it at the first sweep alone, for what an earlier
    start has left.
    """

    def __init__(
        self, root: Path, keep_seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._root = root
        self._keep = keep_seconds
        self._clock = clock
        self._seen: dict[Path, tuple[float, float]] | None = None  # entry → its time, seen when
        self._root.mkdir(parents=True, exist_ok=True)
        self._clients: dict[str, str] = {}  # token → client, in memory only

    def open(self, client: str = "") -> str:
        """Open a visit of a client; returns its token."""
        token = secrets.token_urlsafe(16)
        (self._root / token).mkdir(mode=0o700)
        self._clients[token] = client
        return token

    def client(self, token: str) -> str:
        """Whose visit it is; "" at home, and for a visit of an earlier start."""
        return self._clients.get(token, "")

    def is_open(self, token: str) -> bool:
        """Whether the visit exists."""
        return bool(token) and (self._root / token).is_dir()

    def folder(self, token: str) -> Path:
        """The visit's folder, marked as used now; MergeError if it is gone."""
        path = self._root / token
        if not self.is_open(token):
            raise MergeError("Your session has expired: reload the page and add your files again.")
        os.utime(path)
        return path

    def new_folder(self, token: str) -> Path:
        """A new folder in the visit's folder, for one job or one file."""
        path = self.folder(token) / secrets.token_urlsafe(8)
        path.mkdir(mode=0o700)
        return path

    def keep_copy(self, token: str, source: Path) -> Path:
        """The visit's own copy of an uploaded file, a hard link where the disk allows it.

        Two visitors who upload the same bytes share one path in Gradio's cache, so the app must
        not depend on that path.
        """
        target = self.new_folder(token) / "lora.safetensors"
        keep_copy(source, target)
        if peft_config_path(source).is_file():
            keep_copy(peft_config_path(source), peft_config_path(target))
        return target

    def sweep(self) -> int:
        """Remove what has not been used for too long; returns the number of removed entries."""
        before, now = self._seen, self._clock()
        self._seen = {}
        for path in self._root.iterdir():
            if (used := _used(path)) is None:
                continue  # another sweep has just removed it
            age = max(0.0, time.time() - used) if before is None else 0.0
            last = (before or {}).get(path)
            self._seen[path] = last if last and last[0] == used else (used, now - age)
        old = [path for path, (_, seen) in self._seen.items() if seen < now - self._keep]
        for path in old:
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
            self._clients.pop(path.name, None)
        return len(old)


def keep_copy(source: Path, target: Path) -> None:
    """Copy a file, whole or not at all: a hard link if possible, else a renamed copy."""
    try:
        os.link(source.resolve(), target)  # files of the Hub's cache are links
    except FileExistsError:
        return  # another visit has just stored the same file
    except OSError:
        part = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
        try:
            shutil.copyfile(source, part)
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)


def _used(path: Path) -> float | None:
    """The time of its last use by the machine's clock; None if it is gone."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return None


def start_janitor(stores: list[Store], every_seconds: float = 600) -> threading.Event:
    """Sweep the stores regularly, in a thread that ends with the program or with the event."""
    done = threading.Event()

    def body() -> None:
        while not done.wait(every_seconds):
            for store in stores:
                store.sweep()

    for store in stores:
        store.sweep()
    threading.Thread(target=body, name="iteris-janitor", daemon=True).start()
    return done

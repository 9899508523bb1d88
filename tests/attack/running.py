"""A running app for an attack: its own process, folders and port on this machine alone."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from merging.bundled import LORAS

ROOT = Path(__file__).parents[2]
PAIR = (LORAS / "sks-cat.safetensors", LORAS / "vxz-pizza.safetensors")
PATIENCE = 300  # seconds to start, on a busy machine


@dataclass
class Running:
    """A started app."""

    url: str
    process: subprocess.Popen[bytes]
    log: Path
    files: list[dict[str, Any]] = field(default_factory=list)  # of its last upload

    @property
    def memory(self) -> int:
        """Resident bytes of the process (Linux)."""
        fields = Path(f"/proc/{self.process.pid}/statm").read_text().split()
        return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")

    def upload(self, *paths: Path, **headers: str) -> list[dict[str, Any]]:
        """Upload files; returns them as arguments of an endpoint."""
        return upload(self.url, *paths, **headers)


def upload(url: str, *paths: Path, **headers: str) -> list[dict[str, Any]]:
    """Upload files to the app there; returns them as arguments of an endpoint."""
    parts = [("files", (path.name, path.read_bytes())) for path in paths]
    kept = httpx.post(f"{url}gradio_api/upload", files=parts, headers=headers, timeout=60)
    return listed(kept.json())


def listed(paths: list[str]) -> list[dict[str, Any]]:
    """Uploaded files as an argument of an endpoint."""
    return [
        {"path": path, "orig_name": Path(path).name, "meta": {"_type": "gradio.FileData"}}
        for path in paths
    ]


def free_port() -> int:
    """A port that nobody uses just now."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextmanager
def running(folder: Path, **environ: str) -> Iterator[Running]:
    """``python -m app`` with its folders in ``folder``; it has ended when the block ends."""
    port = free_port()
    log = folder / "log"
    given = {
        "GRADIO_SERVER_PORT": str(port),
        "ITERIS_HOME": str(folder / "home"),
        "TMPDIR": str(folder),
        "HF_HUB_OFFLINE": "1",
        "ITERIS_DEVICE": "cpu",
    }
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "app"],
            cwd=ROOT,
            env={**os.environ, **given, **environ},
            stdout=out,
            stderr=out,
        )
    app = Running(f"http://127.0.0.1:{port}/", process, log)
    try:
        wait_until_served(app)
        yield app
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def wait_until_served(app: Running) -> None:
    """Until it answers; RuntimeError if the app ends or takes too long."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and app.process.poll() is None:
        if is_served(app.url):
            return
        time.sleep(0.1)
    raise RuntimeError(f"the app did not start: {app.log.read_text()[-2000:]}")


def is_served(url: str) -> bool:
    """Whether /health answers."""
    try:
        return httpx.get(f"{url}health", timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


def seconds_to_end(app: Running, number: int = signal.SIGTERM) -> float:
    """Send a signal; how long the process then takes to end."""
    begun = time.monotonic()
    app.process.send_signal(number)
    app.process.wait(60)
    return time.monotonic() - begun

"""The program as a person starts it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from tests.app.conftest import free_port

ROOT = Path(__file__).parents[2]
PATIENCE = 300  # seconds: two busy cores


@contextmanager
def started(tmp_path: Path, **environ: str) -> Iterator[subprocess.Popen[str]]:
    """``python -m app`` with a folder for temporary files of its own."""
    program = subprocess.Popen(
        [sys.executable, "-m", "app"],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(tmp_path), **environ},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield program
    finally:
        program.kill()


def last_words(program: subprocess.Popen[str]) -> str:
    _, said = program.communicate(timeout=PATIENCE)
    return said.strip()


def test_a_wrong_port_is_reported_in_one_line(tmp_path: Path) -> None:
    with started(tmp_path, GRADIO_SERVER_PORT="http") as program:
        (line,) = last_words(program).splitlines()
    assert program.returncode == 2
    assert "GRADIO_SERVER_PORT" in line
    assert "'http'" in line


@pytest.mark.slow
def test_it_serves_until_it_is_terminated_and_leaves_nothing(tmp_path: Path) -> None:
    port = str(free_port())
    with started(tmp_path, GRADIO_SERVER_PORT=port, ITERIS_LOGS="json") as program:
        assert answers(f"http://127.0.0.1:{port}/config", program)
        assert list(tmp_path.glob("iteris-studio-*"))
        program.terminate()
        said = last_words(program)
    assert program.returncode == 0, said
    assert all(json.loads(line)["level"] for line in said.splitlines())
    assert not list(tmp_path.glob("iteris-studio-*"))


@pytest.mark.slow
def test_a_taken_port_is_reported(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        with started(tmp_path, GRADIO_SERVER_PORT=port) as program:
            said = last_words(program)
    assert program.returncode == 2
    assert port in said.splitlines()[-1]
    assert "Traceback" not in said


def answers(address: str, program: subprocess.Popen[str]) -> bool:
    """True as soon as the address is served."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and program.poll() is None:
        try:
            with urlopen(address, timeout=5) as answer:
                return bool(answer.status == 200)
        except URLError:
            time.sleep(0.2)
    pytest.fail(f"the app does not answer; it said: {last_words(program)}")

"""Run the command line from tests: in a subprocess, or in this process, which is quicker."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from merging.__main__ import main
from tests.conftest import ROOT


def run(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "merging", *map(str, words)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)


def answer(*words: object) -> dict:
    """Standard output of a command that ends well: one JSON object and nothing else."""
    done = run(*words, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def done(capsys: pytest.CaptureFixture[str], *words: object) -> dict:
    """What a command says in this process, which is quicker."""
    capsys.readouterr()
    assert main([*map(str, words), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def refused(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    capsys.readouterr()
    assert main(list(map(str, words))) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line.removeprefix("error: ")

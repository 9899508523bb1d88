"""What a killed app leaves in the folder for temporary files is removed by the next one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from app.settings.workplace import PREFIX, remove_left
from tests.conftest import ROOT

APP = """
import sys
from app.settings.workplace import workplace
with workplace({}) as work:
    (work / "upload").write_bytes(b"x")
    print(work, flush=True)
    sys.stdin.read()
"""


def begun(tmp_path: Path) -> tuple[subprocess.Popen[str], Path]:
    """A process that has a workplace, and the folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", APP],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    return process, Path(process.stdout.readline().strip())


def test_the_folder_of_a_killed_app_is_removed_and_no_other(tmp_path: Path) -> None:
    (killed, left), (alive, used) = begun(tmp_path), begun(tmp_path)
    unknown = tmp_path / f"{PREFIX}unknown"
    unknown.mkdir()
    killed.kill()
    killed.communicate()
    remove_left(tmp_path)
    assert left.is_dir(), "so young a folder may belong to an app that has not locked it yet"
    remove_left(tmp_path, beginning=-1)
    assert not left.exists() and (used / "upload").is_file() and unknown.is_dir()
    alive.communicate("")
    assert not used.exists(), "an app that ends removes its own"

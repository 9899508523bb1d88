"""A thousand damaged files through the readers, in a process whose memory is limited."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
FILES = 500


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="no timer of processor time there")
@pytest.mark.parametrize("seed", [0, 1])
def test_damaged_files_are_read_or_refused(tmp_path: Path, seed: int) -> None:
    """Never another answer, more than 100 MB or more than 2 s of processor time."""
    command = [
        sys.executable,
        "-m",
        "tests.merging.formats.fuzz",
        str(FILES),
        str(seed),
        str(tmp_path),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["files"] == FILES
    assert 50 < found["read"] < FILES - 150, "damage is neither always seen nor never"

"""What the page needs before anybody does anything."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.app.conftest import free_port
from tests.conftest import HEAVY, ROOT

SERVED = f"""
import sys
from pathlib import Path
from urllib.request import urlopen
from app.__main__ import prepare
from app.settings.model import Settings
settings = Settings(work=Path(sys.argv[1]), port=int(sys.argv[2]), mcp=True)
prepare(settings)
from app.service import Studio
from app.ui.launch import launch
from app.ui.page import build
address = launch(build(Studio(settings)), settings, prevent_thread_lock=True)
assert b"gradio" in urlopen(address).read() and urlopen(address + "config").status == 200
print([name for name in {HEAVY!r} if name in sys.modules])
import app.jobs.engine
"""


@pytest.mark.slow
def test_the_page_is_served_before_anything_heavy_is_imported(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SERVED, str(tmp_path), str(free_port())]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.stdout.strip().endswith("[]"), done.stdout + done.stderr
    assert "torchvision" not in done.stderr, "what comes behind the page is imported in silence"

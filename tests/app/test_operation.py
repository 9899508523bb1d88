"""What docs/deploy.md gives an operator: the compose file and the systemd unit."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT


def test_compose_mounts_and_publishes_what_the_dockerfile_has() -> None:
    (studio,) = yaml.safe_load((ROOT / "compose.yaml").read_text("utf-8"))["services"].values()
    dockerfile = (ROOT / "Dockerfile").read_text("utf-8")
    (volume,), (port,) = studio["volumes"], studio["ports"]
    assert f"HF_HOME={volume.split(':')[1]}" in dockerfile
    assert f"EXPOSE {port.split(':')[1]}" in dockerfile
    assert studio["read_only"] and studio["tmpfs"] == ["/tmp"]


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is not installed")
def test_systemd_takes_the_documented_unit(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "deploy.md").read_text("utf-8")
    (unit,) = re.findall(r"```ini\n(.*?)```", text, re.DOTALL)
    unit = unit.replace("/opt/iteris-studio/.venv/bin/python", sys.executable)
    unit = unit.replace("/opt/iteris-studio", str(ROOT)).replace("User=iteris", "User=root")
    (tmp_path / "iteris.service").write_text(unit)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--recursive-errors=one", tmp_path / "iteris.service"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "iteris.service" not in done.stderr

"""How run.py shares the tests among processes, and what it says before it installs anything."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import run


@pytest.mark.parametrize(
    ("cores", "arguments", "processes"),
    [
        (2, [], "2"),
        (2, ["-m", "not slow and not browser"], "2"),
        (64, [], str(run.WORKERS)),
        (1, [], None),
        (2, ["tests/project"], None),
        (2, ["tests/project/test_run.py::test_all_cores_run_tests"], None),
        (2, ["-n", "0"], None),
    ],
)
def test_all_cores_run_tests(
    cores: int, arguments: list[str], processes: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    for name in ("OMP_WAIT_POLICY", "OMP_NUM_THREADS"):
        monkeypatch.setenv(name, "")  # put back what it is now
        monkeypatch.delenv(name)
    options = run.workers(arguments)
    assert options[:2] == ([] if processes is None else ["-n", processes])
    threads = None if processes is None else str(cores // int(processes))
    assert os.environ.get("OMP_NUM_THREADS") == threads


def test_help_and_errors_of_usage_install_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run, "MADE", tmp_path / "no environment")
    monkeypatch.delattr(run, "make_environment")
    assert run.main(["--help"]) == 0
    assert "python3 run.py test" in capsys.readouterr().out
    with pytest.raises(SystemExit, match=r"no command tset; did you mean test\?"):
        run.main(["tset"])
    with pytest.raises(SystemExit, match=r"no command banana\. \(python3 run\.py --help"):
        run.main(["banana"])

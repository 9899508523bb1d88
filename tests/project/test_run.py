"""How run.py shares the tests among processes."""

from __future__ import annotations

import os

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

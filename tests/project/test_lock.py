"""The lock files, and how run.py installs them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import run

VERSIONS = [".".join(map(str, version)) for version in run.LOCKED]


def pins(name: str) -> list[Requirement]:
    """The lines of a requirements file."""
    lines = (run.ROOT / name).read_text(encoding="utf-8").splitlines()
    return [Requirement(line) for line in lines if not line.startswith("#")]


def locked(name: str) -> list[Requirement]:
    """The releases of the lock file of a requirements file, without their hashes."""
    return [Requirement(entry.split(" \\\n")[0]) for entry in run.entries(run.lock_of(name))]


def release(pin: Requirement) -> tuple[str, str]:
    return pin.name.lower().replace("_", "-"), str(pin.specifier)


def releases(pins: list[Requirement], version: str) -> list[tuple[str, str]]:
    """What is installed on Linux with this Python: each name and version."""
    platform = {"sys_platform": "linux", "platform_machine": "x86_64"}
    python = {"python_version": version, "python_full_version": f"{version}.1"}
    wanted = (pin for pin in pins if not pin.marker or pin.marker.evaluate(platform | python))
    return [release(pin) for pin in wanted]


@pytest.mark.parametrize("version", VERSIONS)
def test_every_pin_is_locked_for_every_python(version: str) -> None:
    found = [one for name in run.REQUIREMENTS for one in releases(locked(name), version)]
    names = [name for name, _ in found]
    assert len(names) == len(set(names)), "one version of a package"
    wanted = {one for name in run.REQUIREMENTS for one in releases(pins(name), version)}
    missing = {name for name, _ in wanted - set(found)}
    assert missing == {"torch"}, "make the lock files anew: python3 run.py lock"


def test_the_extras_are_pinned_and_locked_as_the_tests_install_them() -> None:
    tested = {release(pin) for pin in pins("tests/requirements.txt")}
    for name in run.EXTRAS:
        assert {release(pin) for pin in pins(name)} <= tested
        found = {release(one) for one in [*locked(name), *locked("requirements.txt")]}
        assert {release(pin) for pin in pins(name)} <= found


@pytest.mark.parametrize("name", [*run.REQUIREMENTS, *run.EXTRAS])
def test_every_release_has_hashes_and_no_address(name: str) -> None:
    assert all("--hash=sha256:" in entry for entry in run.entries(run.lock_of(name)))
    text = run.lock_of(name).read_text(encoding="utf-8")
    assert "://" not in text
    assert "index-url" not in text
    assert text == run.LOCK_HEADER + "\n".join(run.entries(run.lock_of(name))) + "\n"


# --- how they are installed -----------------------------------------------------------------------


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What run.py would have started, in order; all succeeds, and no uv is there."""
    started: list[list[str]] = []

    def call(*command: str | Path) -> int:
        started.append([str(word) for word in command])
        return 0

    monkeypatch.setattr(run, "call", call)
    monkeypatch.setattr(run, "VENV", tmp_path)
    monkeypatch.setattr(run.shutil, "which", lambda _name: None)
    monkeypatch.setattr(run, "LOCKED", (sys.version_info[:2],))
    return started


def test_what_has_hashes_comes_before_torch(commands: list[list[str]]) -> None:
    run.install("requirements.txt")
    first, second = commands
    assert first[1:4] == second[1:4] == ["-m", "pip", "install"]
    assert first[-4:] == ["--require-hashes", "--no-deps", "-r", "requirements.lock"]
    assert second[-2:] == ["-r", "requirements.txt"]
    assert "--require-hashes" not in second
    run.install("requirements.txt")
    assert len(commands) == 2, "nothing has changed"


def test_uv_installs_what_has_hashes_where_it_is_there(
    commands: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run.shutil, "which", lambda name: f"/bin/{name}")
    run.install("tests/requirements.txt")
    assert commands[0][:3] == ["/bin/uv", "pip", "install"]
    assert commands[0][-1] == str(Path("tests") / "requirements.lock")
    assert commands[1][1:3] == ["-m", "pip"], "torch by pip, which knows the index that was set"


def test_a_python_without_lock_file_installs_by_the_pins(
    commands: list[list[str]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(run, "LOCKED", ())
    run.install("requirements.txt")
    assert [command[-1] for command in commands] == ["requirements.txt"]
    assert "not for Python 3." in capsys.readouterr().out


def test_a_file_with_another_hash_ends_it(
    commands: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "call", lambda *_: 1)
    with pytest.raises(SystemExit, match=r"requirements\.lock could not be installed"):
        run.install("requirements.txt")
    assert not list(run.VENV.iterdir())

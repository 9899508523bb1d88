"""Visitors' files: closed to others, gone when old."""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path

import pytest

from app.storage.sessions import Store
from merging.errors import MergeError


def test_a_visit_has_a_folder_of_its_own(tmp_path: Path) -> None:
    store = Store(tmp_path / "sessions", keep_seconds=60)
    one, other = store.open(), store.open()
    assert one != other
    assert stat.S_IMODE(store.folder(one).stat().st_mode) == 0o700


@pytest.mark.parametrize("token", ["", "nobody"])
def test_a_forgotten_visit_is_reported(tmp_path: Path, token: str) -> None:
    with pytest.raises(MergeError, match="expired"):
        Store(tmp_path, keep_seconds=60).folder(token)


def test_the_copy_outlives_the_upload(tmp_path: Path) -> None:
    store = Store(tmp_path / "sessions", keep_seconds=60)
    upload = tmp_path / "../evil name.safetensors"
    upload.write_bytes(b"bytes")
    own = store.keep_copy(store.open(), upload)
    upload.unlink()
    assert own.read_bytes() == b"bytes"
    assert own.name == "lora.safetensors"


def test_only_what_is_old_goes(tmp_path: Path) -> None:
    store = Store(tmp_path, keep_seconds=60)
    old, young = store.open(), store.open()
    past = time.time() - 61
    store.new_folder(old)
    os.utime(tmp_path / old, (past, past))
    assert store.sweep() == 1
    assert not (tmp_path / old).exists()
    assert store.folder(young).is_dir()


@pytest.mark.parametrize("jump", [-86_400, 86_400])
def test_a_jump_of_the_machine_s_clock_removes_nothing_in_use(tmp_path: Path, jump: float) -> None:
    """After a jump, the times of all files are a day away from the clock; only real time counts."""
    real = iter([0.0, 30.0, 89.0, 120.0, 181.0])
    store = Store(tmp_path, keep_seconds=60, clock=lambda: next(real))
    store.sweep()
    visit = store.open()
    far = time.time() - jump  # as the clock says it after the jump
    os.utime(tmp_path / visit, (far, far))
    assert [store.sweep(), store.sweep()] == [0, 0]
    store.folder(visit)  # used now
    assert [store.sweep(), store.sweep()] == [0, 1]

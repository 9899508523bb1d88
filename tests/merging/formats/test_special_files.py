"""Pipes, devices and folders are refused at once, and with one sentence."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from merging.errors import FileError, MergeError
from merging.formats.overview import overview
from merging.formats.reader import read
from merging.io.png import read_origin

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there are no such files")


@pytest.fixture(params=["pipe", "device", "folder"])
def special(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / "x.safetensors"
    if request.param == "device":
        return Path("/dev/zero")
    if request.param == "pipe":
        os.mkfifo(path)
    else:
        path.mkdir()
    return path


def test_a_special_file_is_refused_with_a_sentence(special: Path) -> None:
    for reader in (overview, read):
        with pytest.raises(MergeError, match="is a folder, a pipe or a device"):
            reader(special)


def test_a_special_file_is_no_picture(special: Path) -> None:
    with pytest.raises(MergeError, match="no PNG"):
        read_origin(special)


def test_a_file_that_is_gone_is_reported(tmp_path: Path) -> None:
    for reader in (overview, read):
        with pytest.raises(FileError, match=r"gone\.safetensors cannot be read"):
            reader(tmp_path / "gone.safetensors")

"""A job's files are counted, and those of a job that gave nothing are removed."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pytest

from app.jobs.job_folder import new_files, with_folder
from app.jobs.queue import Step
from merging.errors import MergeError


def job(folder: Path, results: int, error: bool) -> Generator[object, None, None]:
    """A job that writes 10 bytes, gives some results and may fail."""
    (folder / "part").write_bytes(b"x" * 10)
    yield Step(0.5, "half")
    yield from range(results)
    if error:
        raise MergeError("bad")


@pytest.mark.parametrize(("results", "stays"), [(0, False), (1, True)])
def test_the_folder_of_a_failed_job_stays_only_with_results(
    tmp_path: Path, results: int, stays: bool
) -> None:
    folder, noted = tmp_path / "job", list[int]()
    folder.mkdir()
    with pytest.raises(MergeError):
        list(with_folder(folder, job(folder, results, error=True), noted.append))
    assert (folder.exists(), noted) == (stays, [10] * stays)


def test_a_job_that_is_left_is_removed(tmp_path: Path) -> None:
    folder = tmp_path / "job"
    folder.mkdir()
    items = with_folder(folder, job(folder, 1, error=False), lambda _size: None)
    next(items)
    items.close()
    assert not folder.exists()


def test_files_of_an_export_are_counted_or_removed(tmp_path: Path) -> None:
    noted = list[int]()
    with new_files(tmp_path, noted.append):
        (tmp_path / "a").write_bytes(b"abc")
    assert noted == [3]
    with pytest.raises(MergeError), new_files(tmp_path, noted.append):
        raise MergeError("bad")
    assert not tmp_path.exists()

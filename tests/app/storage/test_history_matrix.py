"""Matrices of the history."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from app.storage.history import History
from app.storage.history_matrix import MatrixCell
from tests.app.storage.conftest import Made


def test_a_matrix_is_kept_as_long_as_one_of_its_merges(
    history: History, made: Made, tmp_path: Path
) -> None:
    _, merged, scene, pictures = made
    assert history.matrices(5) == []
    first, second = (history.keep(merged, replace(scene, seed=it), pictures) for it in (1, 2))
    cells = (MatrixCell("Sum", "0.5", first), MatrixCell("Sum", "1", second))
    (tmp_path / "matrix.png").write_bytes(b"all of them")
    history.keep_matrix(cells, tmp_path / "matrix.png")
    (kept,) = history.matrices(5)
    assert (kept.cells, kept.title) == (cells, "Matrix of sks-cat + vxz-pizza, 2 merges")
    assert kept.sheet.read_bytes() == b"all of them"
    assert kept.entries == {entry.id: entry for entry in history.entries(0, 5)}
    history.forget(first)
    (kept,) = history.matrices(5)
    assert [*kept.entries] == [second] and kept.sheet.is_file()
    history.keep_matrix(cells[1:], tmp_path / "matrix.png")
    assert [len(each.cells) for each in history.matrices(5)] == [1, 2], "the newest first"
    history.forget(second)
    assert history.matrices(5) == []
    assert [path.name for path in (tmp_path / "history").iterdir()] == ["index.sqlite"]

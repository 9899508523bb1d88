"""A batch that is drawn: a picture of every merge, all of them as one, and each in the history."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from app.jobs.queue import Step
from app.schemas.batch import BatchOrder, BatchResult
from app.schemas.draw import DrawOrder, Picture
from app.schemas.merge import FinishedMerge, MergeOrder, SelectedFile
from app.service import Studio
from app.shell_commands import batch_command
from merging.cli.main import command_parser
from merging.errors import MergeError
from tests.app.visits import added


@pytest.mark.slow
def test_every_merge_is_drawn_and_kept(studio: Studio, pair: tuple[Path, Path]) -> None:
    session, cards = added(studio, pair)
    picks = tuple(map(SelectedFile.of, cards))
    scene = DrawOrder(picks, "a sks cat\na vxz pizza", seed=4, steps=2, count=3, size="64x64")
    order = BatchOrder(
        MergeOrder(picks), ("sum", "tsv"), ((), ()), varied=(("rank", (2, 4)),), scene=scene
    )
    assert order.count == 4
    items = list(studio.batch(session, order))
    shares = [item.share for item in items if isinstance(item, Step)]
    assert shares == sorted(shares), "one bar for merges and pictures"
    merges = [item for item in items if isinstance(item, FinishedMerge)]
    pictures = [item for item in items if isinstance(item, Picture)]
    (result,) = (item for item in items if isinstance(item, BatchResult))
    assert [cell.picture for cell in result.cells] == pictures
    assert [(merge.order.method, merge.order.rank) for merge in merges] == [
        ("sum", 2), ("sum", 4), ("tsv", 2), ("tsv", 4),
    ]  # fmt: skip
    assert {(it.prompt, it.seed) for it in pictures} == {("a sks cat", 4)}
    assert result.matrix is not None and Image.open(result.matrix).width > 300

    # a cell opens as the merge that it is, and its picture is drawn again to the byte
    drawn = order.drawn(merges[3])
    assert drawn is not None
    entry, note = studio.remember(session, merges[3], drawn, [pictures[3]])
    assert not note and entry is not None
    opened = studio.recall(session, entry)
    assert opened.merged.order.rank == 4 and opened.scene is not None
    (again,) = (it for it in studio.draw(session, opened.scene) if isinstance(it, Picture))
    assert Image.open(again.path).tobytes() == Image.open(pictures[3].path).tobytes()

    words = shlex.split(batch_command(order, "all.zip", "recipe.json"))[3:]
    options = command_parser(words).parse_args(words)
    assert (options.matrix, options.picture_seed, options.vary) == (
        "a sks cat", 4, [("rank", (2, 4))],
    )  # fmt: skip


def test_a_matrix_needs_a_prompt(studio: Studio, pair: tuple[Path, Path]) -> None:
    session, cards = added(studio, pair)
    picks = tuple(map(SelectedFile.of, cards))
    order = BatchOrder(MergeOrder(picks), ("sum",), ((), ()), scene=DrawOrder(picks, " "))
    with pytest.raises(MergeError, match="Type a prompt first"):
        studio.batch(session, order)
    too_many = replace(order, scene=None, varied=(("samples", tuple(range(1, 99))),))
    with pytest.raises(MergeError, match="These are 98 merges"):
        studio.batch(session, too_many)

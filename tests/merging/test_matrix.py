"""A batch as a matrix of pictures."""

from __future__ import annotations

import io
import zipfile
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from merging import formats
from merging.batch import MATRIX, plan_batch
from merging.batch.matrix import EMPTY, GAP, MARGIN, PictureScene, matrix
from merging.diffusion.base import Base
from merging.diffusion.render import render
from merging.errors import MergeError
from merging.request import MergeRequest, Source
from tests.conftest import SHELF
from tests.merging.cli.commands import done, refused

CAT, PIZZA = SHELF["sks cat"], SHELF["vxz pizza"]
PROMPT = "a photo of a sks cat and a vxz pizza"
SCENE = PictureScene(PROMPT)


@pytest.fixture(scope="module")
def pair() -> MergeRequest:
    return MergeRequest(tuple(Source(formats.read(file)) for file in (CAT, PIZZA)))


def test_every_value_of_every_axis_meets_every_other(pair: MergeRequest) -> None:
    merges = plan_batch(pair, ["sum", "tsv"], [(0.5, 1.0), ()], {"rank": (4, 8), "seed": (1,)})
    assert len({planned.stem for planned in merges}) == len(merges) == 8
    assert Counter(planned.request.rank for planned in merges) == {4: 4, 8: 4}
    assert merges[1].settings == {
        "method": "Weighted sum",
        "strength": "sks cat 0.5 + vxz pizza 1",
        "rank": "rank 8",
        "seed": "seed 1",
    }
    with pytest.raises(MergeError, match="ridge must be a number above 0"):
        plan_batch(pair, ["sum"], (), {"ridge": (-1.0,)})


def test_cells_are_at_their_places_and_a_failed_merge_leaves_one_empty() -> None:
    colours = {("a", "x"): (200, 0, 0), ("b", "x"): (0, 200, 0), ("a", "y"): (0, 0, 200)}
    cells = [
        ({"method": across, "rank": down}, Image.new("RGB", (64, 64), colour))
        for (across, down), colour in colours.items()
    ]
    sheet = matrix([*cells, ({"method": "b", "rank": "y"}, None)], SCENE)
    assert sheet.size == (MARGIN + 2 * (128 + GAP), 80 + 2 * (128 + GAP))
    found = {
        (across, down): sheet.getpixel((MARGIN + i * (128 + GAP) + 64, 80 + j * (128 + GAP) + 64))
        for i, across in enumerate("ab")
        for j, down in enumerate("xy")
    }
    assert found == colours | {("b", "y"): EMPTY}


@pytest.mark.slow
def test_the_command_draws_every_merge(
    tmp_path: Path, base: Base, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each as its file draws, from the same noise; the same request gives the same bytes."""
    ask = ("batch", CAT, PIZZA, "--methods", "sum", "average", "--vary", "rank=2,4", "--matrix",
           PROMPT, "--picture-steps", 2, "--picture-seed", 5, "--out")  # fmt: skip
    out, again = tmp_path / "a.zip", tmp_path / "b.zip"
    said = done(capsys, *ask, out)
    done(capsys, *ask, again)
    assert out.read_bytes() == again.read_bytes()
    stem = said["merges"][-1]["stem"]
    assert stem.endswith("_rank-4")
    with zipfile.ZipFile(out) as bundle:
        bundle.extractall(tmp_path)
        (name,) = (name for name in bundle.namelist() if name.endswith(MATRIX))
        assert Image.open(io.BytesIO(bundle.read(name))).width == MARGIN + 2 * (128 + GAP)
    file = next(tmp_path.rglob(f"{stem}.safetensors"))
    (image,) = render(base, [PROMPT], [5], adapters=[(formats.read(file), 1.0)], steps=2)
    assert Image.open(file.with_suffix(".png")).tobytes() == image.tobytes()


def test_an_axis_must_be_an_option(capsys: pytest.CaptureFixture[str]) -> None:
    words = refused(capsys, "batch", CAT, PIZZA, "--vary", "ridg=1,2", "--out", "x.zip")
    assert "'ridg=1,2' is no OPTION=VALUE,VALUE; did you mean ridge?" in words

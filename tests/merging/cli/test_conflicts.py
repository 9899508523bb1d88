"""The command that says where LoRAs meet."""

from __future__ import annotations

import pytest

from merging import formats
from merging.analysis.conflicts import advice, conflicts
from merging.cli.arguments.file_argument import parse_file_argument
from tests.conftest import SHELF
from tests.merging.cli.commands import done, refused

CAT, PIZZA, DOG = SHELF["sks cat"], SHELF["vxz pizza"], SHELF["qfj dog"]


def test_it_says_what_the_library_finds(capsys: pytest.CaptureFixture[str]) -> None:
    strong = f"{PIZZA}@2:te=0:lbw=OUTALL"
    (told,) = done(capsys, "conflicts", CAT, strong)["pairs"]
    typed = {str(CAT): CAT, strong: PIZZA}
    sources = [
        parse_file_argument(text).source_of(formats.read(path)) for text, path in typed.items()
    ]
    (pair,) = conflicts(sources)
    assert told["advice"] == advice(pair)
    assert told["whole"]["overlap"] == pair.whole.overlap
    ratios = {met["block"]: met["ratio"] for met in told["blocks"]}
    assert ratios.keys() == {met.block for met in pair.blocks}
    assert ratios["BASE"] is None, "the pizza is silent in the text encoder"


def test_the_worst_pair_comes_first(capsys: pytest.CaptureFixture[str]) -> None:
    names = [pair["names"] for pair in done(capsys, "conflicts", DOG, CAT, f"{PIZZA}@0.1")["pairs"]]
    assert len(names) == 3
    assert all("vxz-pizza" in pair for pair in names[:2])


def test_one_file_has_no_conflicts(capsys: pytest.CaptureFixture[str]) -> None:
    assert "at least two files" in refused(capsys, "conflicts", CAT)

"""FILE@… on the command line: strengths of the whole, of its parts and of its blocks."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from merging import formats
from merging.adapter import Adapter
from merging.block_weights import block_weights
from merging.blocks import apply_block_weights
from merging.cli.arguments.file_argument import parse_file_argument
from merging.errors import MergeError
from merging.lora_file import LoraInput, lora_input
from merging.request import MergeRequest, Source
from tests.conftest import SHELF, distance
from tests.merging.cli.commands import done, refused

CAT, PIZZA = SHELF["sks cat"], SHELF["vxz pizza"]
MIDD = block_weights("MIDD")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("a.safetensors", LoraInput(Path("a.safetensors"))),
        ("a.safetensors@0.8", LoraInput(Path("a.safetensors"), 0.8)),
        ("a.safetensors@-1.5", LoraInput(Path("a.safetensors"), -1.5)),
        ("me@home/a.safetensors", LoraInput(Path("me@home/a.safetensors"))),
        ("a@2.safetensors", LoraInput(Path("a@2.safetensors"))),
        ("a@2x", LoraInput(Path("a@2x"))),
        ("a@2.safetensors@.5", LoraInput(Path("a@2.safetensors"), 0.5)),
        ("a@0.8:te=0.4", LoraInput(Path("a"), 0.8, text_encoder=0.5)),
        ("a@te=0.5", LoraInput(Path("a"), 1.0, text_encoder=0.5)),
        ("a@0.5:te=1:unet=0", LoraInput(Path("a"), 0.5, 2.0, 0.0)),
        ("a@0:te=0.5", LoraInput(Path("a"), 0.5, 1.0, 0.0)),
        ("a@0:te=0", LoraInput(Path("a"), 0.0)),
        ("a@0.8:lbw=midd", LoraInput(Path("a"), 0.8, blocks=MIDD)),
        ("a@lbw=" + ",".join("1" * 17), LoraInput(Path("a"), blocks=block_weights("ALL"))),
    ],
)
def test_what_is_meant(text: str, wanted: LoraInput) -> None:
    assert parse_file_argument(text) == wanted


@pytest.mark.parametrize(
    ("text", "own"),
    [
        ("a@0.8", {"strength": 0.8}),
        ("a@0.8:te=0.5:unet=1:lbw=MIDD", {"text_encoder": 0.5, "unet": 1.0, "lbw": "MIDD"}),
        ("a@0:unet=0.5", {"strength": 0.0, "unet": 0.5}),
        ("a@0", {"strength": 0.0}),
    ],
)
def test_strengths_apart_mean_what_the_text_means(text: str, own: dict) -> None:
    assert lora_input(Path("a"), **{"strength": 0.8, **own}) == parse_file_argument(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a@0.8:clip=1", "“clip=1” is unknown; after @ come a strength and te=, unet= and lbw="),
        ("a@clip=1", "“clip=1” is unknown"),
        ("a@0.8:0.5", "“0.5” is unknown"),
        ("a@te=1:te=2", "“te=2” is there twice"),
        ("a@te=much", "“much” is not a number"),
        ("a@lbw=MIDDLE", "neither a preset"),
        ("a@lbw=1,2", "there are 2"),
    ],
)
def test_what_is_refused(text: str, words: str) -> None:
    with pytest.raises(MergeError, match=words):
        parse_file_argument(text)


@pytest.mark.parametrize(
    "own",
    [
        {"strength": 11.0},
        {"strength": 2.0, "text_encoder": 6.0},
        {"strength": 2.0, "blocks": {"M00": -6.0}},
        {"unet": float("nan")},
        {"blocks": {"IN99": 1.0}},
    ],
)
def test_strengths_that_no_request_takes(random_adapter: Callable[..., Adapter], own: dict) -> None:
    with pytest.raises(MergeError, match="random-1: "):
        MergeRequest((Source(random_adapter(1), **own),), method="sum")


@pytest.mark.parametrize(
    ("words", "te", "unet", "blocks"),
    [("0.8:te=0.4", 0.4, 0.8, None), ("0.8:lbw=MIDD", 0.8, 0.8, MIDD),
     ("te=0:unet=1.5:lbw=OUTALL", 0.0, 1.5, block_weights("OUTALL"))],
)  # fmt: skip
def test_a_merge_has_them_and_its_replay_the_same_bytes(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    words: str,
    te: float,
    unet: float,
    blocks: dict[str, float] | None,
) -> None:
    first, again = tmp_path / "cat.safetensors", tmp_path / "again" / "cat.safetensors"
    again.parent.mkdir()
    done(capsys, "merge", f"{CAT}@{words}", "--method", "sum", "--dtype", "fp32", "--out", first)
    assert (
        distance(formats.read(first), apply_block_weights(formats.read(CAT), te, unet, blocks))
        < 1e-5
    )
    assert done(capsys, "replay", first, CAT, "--out", again)["same"]
    assert again.read_bytes() == first.read_bytes()


def test_an_old_recipe_without_parts_is_still_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is as strong everywhere is written as it always was."""
    out = tmp_path / "out.safetensors"
    done(capsys, "merge", f"{CAT}@0.8", PIZZA, "--method", "sum", "--out", out)
    (entry,) = done(capsys, "inspect", out)["files"]
    for source in entry["recipe"]["sources"]:
        assert source.keys() == {"name", "sha256", "strength", "trigger", "prompts"}
    assert json.dumps(entry["recipe"])


def test_nothing_left_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.safetensors"
    words = refused(capsys, "merge", f"{CAT}@lbw=NONE", "--method", "sum", "--out", out)
    assert "are 0 for all of its layers" in words
    assert not out.exists()

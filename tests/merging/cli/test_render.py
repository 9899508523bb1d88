"""The command ``render``, in this process."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from merging.__main__ import main
from merging.io.png import read_origin
from tests.conftest import SHELF

CAT, PIZZA = SHELF["sks cat"], SHELF["vxz pizza"]


def answer(capsys: pytest.CaptureFixture[str], *words: object) -> list[dict]:
    assert main(["render", *map(str, words), "--json"]) == 0
    return json.loads(capsys.readouterr().out)["pictures"]


def test_maps_lie_beside_their_pictures(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    said = answer(
        capsys, "--adapter", CAT, PIZZA, "--prompt", "a sks cat", "--steps", 2, "--count", 2,
        "--seed", 4, "--out", tmp_path, "--maps",
    )  # fmt: skip
    assert [each["seed"] for each in said] == [4, 5]
    for each in said:
        assert list(each["maps"]) == ["sks cat", "vxz pizza"]
        for path in (each["path"], *each["maps"].values()):
            with Image.open(path) as image:
                assert image.size == (128, 128)


@pytest.mark.slow
def test_the_judge_says_what_is_there(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Thresholds from one picture; the pizza is looked for, but its LoRA does not draw."""
    monkeypatch.setattr("merging.diffusion.refine.judge.JUDGE_PICTURES", 1)
    monkeypatch.setattr("merging.diffusion.refine.judge.JUDGE_STEPS", 6)
    (said,) = answer(
        capsys, "--adapter", CAT, "--prompt", "a photo of a sks cat and a vxz pizza", "--steps", 8,
        "--seed", 1, "--out", tmp_path, "--judge", CAT, PIZZA,
    )  # fmt: skip
    cat, pizza = said["concepts"]["sks cat"], said["concepts"]["vxz pizza"]
    assert (cat["found"], pizza["found"]) == (True, False)
    assert cat["score"] > 1 > pizza["score"]
    assert all(0 < share < 1 for share in cat["place"])


@pytest.mark.slow
def test_a_picture_brings_its_settings_and_what_is_given_goes_before_them(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (first,) = answer(
        capsys, "--prompt", "a cat", "--steps", 2, "--seed", 9, "--sampler", "Euler",
        "--negative", "dog", "--guidance", 4, "--out", tmp_path / "one",
    )  # fmt: skip
    picture = Path(first["path"])
    (same,) = answer(capsys, "--like", picture, "--out", tmp_path / "two")
    assert Path(same["path"]).read_bytes() == picture.read_bytes()
    (other,) = answer(capsys, "--like", picture, "--seed", 8, "--out", tmp_path / "three")
    origin, _ = read_origin(Path(other["path"]))
    assert (origin.seed, origin.sampler, origin.negative) == (8, "Euler", "dog")
    assert origin.guidance == 4
    (usual,) = answer(capsys, "--prompt", "a cat", "--steps", 2, "--out", tmp_path / "four")
    assert read_origin(Path(usual["path"]))[0].guidance == 3  # as the embedded base draws best


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "There is no prompt"),
        (["--prompt", "a cat", "--count", "0"], "--count must be 1 to"),
        (["--prompt", "a cat", "--maps"], "no adapter has a trigger"),
        (["--like", CAT], "is no PNG picture"),
    ],
)
def test_bad_input_is_one_sentence(
    words: list, sentence: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["render", *map(str, words), "--out", str(tmp_path / "x")]) == 2
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "x").exists()

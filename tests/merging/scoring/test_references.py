"""Scores of pictures beside references, and the command that prints them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from merging.__main__ import main
from merging.base_models import SD15
from merging.errors import MergeError
from merging.evaluation.cases import Case, PictureTask
from merging.evaluation.metrics import Scorers, score_pictures
from merging.scoring.clip import load_clip
from merging.scoring.references import MOST_PICTURES, build_scorer, open_reference, pictures_in

PROMPT = "a photo of a cat on a red background"


def flat(folder: Path, name: str, colour: tuple[int, int, int]) -> Path:
    folder.mkdir(exist_ok=True)
    Image.new("RGB", (80, 64), colour).save(folder / name)
    return folder / name


def test_the_scores_are_the_benchmarks(tmp_path: Path) -> None:
    """Both call the same two functions; here on the same pictures and references."""
    files = {
        "sks cat": [flat(tmp_path, f"{i}.png", (200, 40 * i, 40)) for i in range(3)],
        "vxz pizza": [flat(tmp_path, "p.webp", (40, 40, 200))],
    }
    images = [open_reference(path) for path in (*files["sks cat"][:1], *files["vxz pizza"])]
    clip = load_clip()
    (red, blue) = build_scorer(clip, files).score(images, [PROMPT] * 2)
    assert red.image["sks cat"] > blue.image["sks cat"]
    assert blue.image["vxz pizza"] == pytest.approx(1.0, abs=1e-5)
    assert str(blue).startswith(f"text-align {blue.text:.2f} · sks cat ")

    references = {
        name: clip.image_embeddings(list(map(open_reference, paths)))
        for name, paths in files.items()
    }
    for scores, image in zip((red, blue), images, strict=True):
        for name, score in scores.image.items():
            case = Case("one", "objects", "test", (), (PictureTask("alone", PROMPT, (name,), 0),))
            (row,) = score_pictures(Scorers(clip), case, [image], references)
            assert row["image"] == pytest.approx(score, abs=1e-6)
            assert row["text"] == pytest.approx(scores.text, abs=1e-6)


def test_reference_pictures_are_upright_and_of_one_kind(tmp_path: Path) -> None:
    turned = Image.new("RGBA", (40, 20), (255, 0, 0, 128))
    exif = Image.Exif()
    exif[0x0112] = 6  # held upright
    turned.convert("RGB").save(tmp_path / "a.JPG", exif=exif)
    turned.save(tmp_path / "b.png")
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / "c.png").mkdir()
    pictures = pictures_in(tmp_path)
    assert [path.name for path in pictures] == ["a.JPG", "b.png"]
    assert [(image.size, image.mode) for image in map(open_reference, pictures)] == [
        ((20, 40), "RGB"),
        ((40, 20), "RGB"),
    ]


def test_other_files_than_pictures_are_refused(tmp_path: Path) -> None:
    (tmp_path / "letter.png").write_bytes(b"dear friend")
    (tmp_path / "cut.png").write_bytes(flat(tmp_path, "whole.png", (1, 2, 3)).read_bytes()[:60])
    for name in ("letter.png", "cut.png"):
        with pytest.raises(MergeError, match=rf"^{name} is no picture that can be read"):
            open_reference(tmp_path / name)
    Image.new("1", (10_000, 8_500)).save(tmp_path / "wide.png")
    with pytest.raises(MergeError, match=r"wide\.png has 10000 × 8500 pixels"):
        open_reference(tmp_path / "wide.png")
    with pytest.raises(MergeError, match=r"^gone\.png no longer exists; add it again"):
        open_reference(tmp_path / "gone.png")
    with pytest.raises(MergeError, match="nothing is neither a picture nor a folder with pictures"):
        pictures_in(tmp_path / "nothing")
    with pytest.raises(MergeError, match=f"sks cat: {MOST_PICTURES + 1} reference pictures"):
        build_scorer(load_clip(), {"sks cat": [tmp_path / "whole.png"] * (MOST_PICTURES + 1)})


def test_the_command_prints_scores(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    red = flat(tmp_path / "photos", "red.png", (205, 60, 60))
    draw = ["render", "--prompt", PROMPT, "--steps", "1", "--out", str(tmp_path / "out")]
    draw += ["--reference", f"sks cat={red.parent}", f"vxz pizza={red}"]
    assert main([*draw, "--json"]) == 0
    (picture,) = json.loads(capsys.readouterr().out)["pictures"]
    image = Image.open(picture["path"]).convert("RGB")
    clip = load_clip()
    near = clip.image_similarity([image], [open_reference(red)])
    assert picture["scores"]["image"] == pytest.approx(
        {"sks cat": near, "vxz pizza": near}, abs=1e-5
    )
    score = clip.text_similarity([image], [PROMPT])
    assert picture["scores"]["text"] == pytest.approx(2.5 * max(score, 0), abs=1e-5)
    assert main(draw) == 0
    line = f"text-align {picture['scores']['text']:.2f} · sks cat {near:.2f}"
    assert line in capsys.readouterr().out


@pytest.mark.parametrize("reference", ["photos", "=photos", "sks cat="])
def test_a_reference_needs_its_trigger(
    reference: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draw = ["render", "--prompt", PROMPT, "--steps", "1", "--out", str(tmp_path)]
    assert main([*draw, "--reference", reference]) == 2
    assert "write TRIGGER=FOLDER" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_without_a_network_clip_of_sd15_is_refused() -> None:
    """HF_HUB_OFFLINE is set for all tests."""
    with pytest.raises(MergeError, match="cannot be loaded; check the connection") as refused:
        load_clip(SD15.clip)
    assert "\n" not in str(refused.value)


def test_embeddings_do_not_depend_on_company(tmp_path: Path) -> None:
    """References are embedded one by one; together they would be the same."""
    files = [flat(tmp_path, f"{i}.png", (60 * i, 100, 250 - 60 * i)) for i in range(4)]
    clip = load_clip()
    alone = build_scorer(clip, {"x": files}).references["x"]
    torch.testing.assert_close(alone, clip.image_embeddings(list(map(open_reference, files))))

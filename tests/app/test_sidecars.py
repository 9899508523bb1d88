"""What lies beside a LoRA gives its trigger words, its base model and its picture."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from app.schemas.card import Card
from app.schemas.merge import SelectedFile
from app.schemas.thumbnail import SIDE
from app.service import Studio
from app.sidecars import MAX_TEXT, described, read_sidecar, unused
from app.ui.handlers.drop import redescribed, sort_drop
from merging.errors import MergeError
from tests.app.visits import added

SHA = "ab" * 32
# The fields of each program that count, beside some that do not.
CIVITAI = {
    "id": 7,
    "name": "v2",
    "trainedWords": ["abc dog, fluffy", "long  tail", 7, ""],
    "baseModel": "SD 1.5",
    "files": [{"name": "other.safetensors", "hashes": {"AutoV2": "1234", "SHA256": SHA.upper()}}],
    "model": {"name": "A dog", "type": "LORA"},
}
PROGRAMS = {
    "dog.civitai.info": CIVITAI,
    "dog.json": {
        "description": "x",
        "sd version": "SD1",
        "activation text": "abc dog, fluffy, long tail",
        "preferred weight": 0.8,
    },
    "dog.metadata.json": {"sha256": SHA, "base_model": "SD 1.5", "civitai": CIVITAI},
}


@pytest.fixture
def card(studio: Studio, bad_files: dict[str, Path]) -> Card:
    """A LoRA for SD 1.5 that names no trigger words."""
    _, (found,) = added(studio, [bad_files["sd15"]])
    return replace(found, name="dog", trigger="", words=())


def written(folder: Path, name: str, content: object) -> Path:
    (folder / name).write_text(json.dumps(content), encoding="utf-8")
    return folder / name


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_program_s_file_names_the_trigger(name: str, card: Card, tmp_path: Path) -> None:
    sidecar = read_sidecar(written(tmp_path, name, PROGRAMS[name]))
    assert sidecar.stem == "dog"
    after = described(card, [sidecar])
    assert after.trigger == "abc dog"
    assert after.words == ("abc dog", "fluffy", "long tail")
    assert after.warnings == card.warnings
    assert "SD" in after.sidecar
    named = replace(card, trigger="own", words=("own",))
    assert described(named, [sidecar]).trigger == "own", "its own header goes first"
    assert described(named, [sidecar]).words[:2] == ("own", "abc dog")


def test_a_hash_finds_the_lora_of_another_name(card: Card, tmp_path: Path) -> None:
    sidecar = read_sidecar(written(tmp_path, "download (3).civitai.info", CIVITAI))
    other = replace(card, name="renamed")
    assert described(other, [sidecar]) is other
    assert unused([sidecar], [other]) == [
        "download (3).civitai.info belongs to no LoRA here: drop it together with "
        "download (3).safetensors."
    ]
    same = replace(other, sha256=SHA)
    assert described(same, [sidecar]).trigger == "abc dog"
    assert unused([sidecar], [same]) == []


def test_another_base_model_is_reported(card: Card, tmp_path: Path) -> None:
    pony = read_sidecar(written(tmp_path, "dog.civitai.info", CIVITAI | {"baseModel": "Pony"}))
    assert described(card, [pony]).warnings[-1] == (
        "dog.civitai.info says that it was made for Pony, but its layers are those of Stable "
        "Diffusion 1.5."
    )


def test_a_picture_beside_it_becomes_its_thumbnail(card: Card, tmp_path: Path) -> None:
    for name in ("dog.png", "DOG.preview.jpg", "dog.webp"):
        Image.new("RGB", (300, 200), "tan").save(tmp_path / name)
        after = described(card, [read_sidecar(tmp_path / name)])
        assert after.thumbnail.startswith("data:image/png;base64,")
        assert len(after.thumbnail) < 20 * SIDE


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("dog.civitai.info", b"[" * 100_000, "it is no JSON file"),
        ("dog.civitai.info", b"\xff\xfe{", "it is no JSON file"),
        ("dog.json", b"[1]", "says nothing of a LoRA"),
        ("dog.json", b'{"trainedWords": {"a": 1}, "baseModel": 3}', "says nothing of a LoRA"),
        ("dog.json", b" " * (MAX_TEXT + 1), "larger than 4 MB"),
        ("dog.png", b"GIF89a", "no picture"),
    ],
)
def test_what_describes_no_lora_is_reported(
    name: str, content: bytes, sentence: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(MergeError, match=sentence) as caught:
        read_sidecar(tmp_path / name)
    assert str(caught.value).startswith(name) and str(tmp_path) not in str(caught.value)


def test_a_drop_is_sorted_by_what_its_files_are(tmp_path: Path) -> None:
    """A picture is a LoRA's by its name; one of no LoRA may be one that was drawn here."""
    names = ("Dog.safetensors", "dog.png", "cat.preview.png", "house.png", "dog.ckpt", "x.jpg")
    for name in names:
        if name.endswith(("png", "jpg")):
            Image.new("RGB", (8, 8)).save(tmp_path / name)
        else:
            (tmp_path / name).write_bytes(b"")
    written(tmp_path, "adapter_config.json", {"r": 4})
    (tmp_path / "dog.civitai.info").write_text("{")
    paths = [tmp_path / name for name in (*names, "adapter_config.json", "dog.civitai.info")]
    drop = sort_drop(paths, ["other"])
    assert [path.name for path in drop.loras] == [
        "Dog.safetensors", "dog.ckpt", "x.jpg", "adapter_config.json",
    ]  # fmt: skip
    assert [path.name for path in drop.drawn_here] == ["house.png"]
    assert [sidecar.name for sidecar in drop.sidecars] == ["dog.png", "cat.preview.png"]
    assert drop.problems == ["dog.civitai.info cannot be read: it is no JSON file."]


def test_rows_take_what_is_dropped_later_and_keep_what_was_typed(
    card: Card, tmp_path: Path
) -> None:
    sidecar = read_sidecar(written(tmp_path, "dog.civitai.info", CIVITAI))
    pick = SelectedFile.of(card)
    for before, after in (("", "abc dog"), ("my dog", "my dog")):
        (fresh,), (chosen,) = redescribed([card], [replace(pick, trigger=before)], [sidecar])
        assert (fresh.trigger, chosen.trigger) == ("abc dog", after)

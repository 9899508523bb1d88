"""What lies beside a merge, and a recipe that knows the base it was made on."""

from __future__ import annotations

import json
import shutil
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from merging import formats
from merging.adapter import Adapter
from merging.base_models import MINI
from merging.block_weights import block_weights
from merging.diffusion.base import Base
from merging.errors import MergeError
from merging.export import sidecar as companions
from merging.export.model_card import model_card
from merging.export.recipe import recipe
from merging.request import MergeRequest, Source
from tests.conftest import SHELF
from tests.merging.cli.commands import done, refused
from tests.merging.formats.handmade import metadata

CAT, PIZZA = SHELF["sks cat"], SHELF["vxz pizza"]


@pytest.mark.slow
def test_the_card_and_the_picture_lie_beside_the_merge(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "both.v1.safetensors"
    said = done(
        capsys, "merge", CAT, f"{PIZZA}@0.8", "--method", "sum", "--out", out, "--sidecar",
        "--preview", "--seed", 3,
    )  # fmt: skip
    assert {path.name for path in tmp_path.iterdir()} == {
        "both.v1.safetensors",
        "both.v1.json",
        "both.v1.preview.png",
    }
    assert json.loads(Path(said["sidecar"]).read_text("utf-8")) == {
        "description": "Weighted sum of sks-cat and vxz-pizza",
        "sd version": "Unknown",
        "activation text": "sks cat, vxz pizza",
        "preferred weight": 1.0,
        "negative text": "",
        "notes": "Made with IterIS Studio of sks-cat at 1, vxz-pizza at 0.8.",
    }
    with Image.open(said["preview"]) as image:
        assert image.info["parameters"].startswith("a photo of a sks cat and a vxz pizza")
        assert "Seed: 3" in image.info["parameters"]
    more = ("--preview", "a tree", "--out", out)
    said = done(capsys, "merge", CAT, PIZZA, "--method", "sum", *more)
    with Image.open(said["preview"]) as image:
        assert image.info["parameters"].startswith("a tree")


def test_the_card_of_a_file_for_stable_diffusion(tmp_path: Path) -> None:
    cat = replace(formats.read(CAT), base="sd15")
    request = MergeRequest((Source(cat, trigger="sks cat"),), method="sum")
    path = companions.write_sidecar(request, cat, tmp_path / "a.safetensors")
    assert json.loads(path.read_text("utf-8"))["sd version"] == "SD1"


def test_cards_tell_strengths_part_by_part(tmp_path: Path) -> None:
    cat, pizza = (formats.read(path) for path in (CAT, PIZZA))
    apart = Source(pizza, -0.4, text_encoder=-0.5, blocks=block_weights("OUTALL"))
    request = MergeRequest((Source(cat, 0.7), apart), method="sum")
    path = companions.write_sidecar(request, cat, tmp_path / "a.safetensors")
    notes = json.loads(path.read_text("utf-8"))["notes"]
    assert "sks-cat at 0.7, vxz-pizza at -0.4 (text encoder 0.2, blocks OUTALL)." in notes
    told = model_card("a", recipe(request), [], "", ["a.safetensors"], [])
    assert "| vxz-pizza | -0.4 (text encoder 0.2, blocks OUTALL) |" in told


def test_a_picture_without_words_is_refused_before_any_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nameless = [tmp_path / path.name for path in (CAT, PIZZA)]
    for path, source in zip(nameless, (CAT, PIZZA), strict=True):
        save_file(load_file(source), path)
    out = tmp_path / "out.safetensors"
    words = refused(
        capsys, "merge", *nameless, "--method", "sum", "--preview", "--base", "mini", "--out", out
    )
    assert "--preview PROMPT" in words
    assert not out.exists()


def test_a_card_that_cannot_be_written_leaves_no_piece(tmp_path: Path) -> None:
    cat = formats.read(CAT)
    request = MergeRequest((Source(cat),), method="sum")
    (tmp_path / "a.json").mkdir()
    with pytest.raises(MergeError, match="cannot be written"):
        companions.write_sidecar(request, cat, tmp_path / "a.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


# --- the base of a recipe -------------------------------------------------------------------------


def test_a_fingerprint_is_of_the_weights_and_not_of_the_precision(base: Base) -> None:
    other = Base("other", deepcopy(base.pipeline), base.device, base.dtype)
    assert other.fingerprint == base.fingerprint
    halved = Base("half", deepcopy(base.pipeline).to(torch.float16), base.device, torch.float16)
    assert halved.fingerprint == base.fingerprint
    changed = Base("changed", deepcopy(base.pipeline), base.device, base.dtype)
    with torch.no_grad():
        changed.layers["unet.conv_out"].weight[0, 0, 0, 0] += 0.1
    assert changed.fingerprint != base.fingerprint


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The embedded base in a folder of its own, and once more with other weights."""
    place = tmp_path_factory.mktemp("bases")
    mine, other = place / "mine", place / "other"
    for folder in (mine, other):
        shutil.copytree(MINI.source, folder)
    weights = other / "text_encoder" / "model.safetensors"
    tensors = load_file(weights)
    save_file({key: 1.01 * value for key, value in tensors.items()}, weights, {"format": "pt"})
    return mine, other


@pytest.mark.slow
def test_a_merge_on_a_folder_is_replayed_where_the_weights_are_the_same(
    tmp_path: Path, folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    mine, other = folders
    first, again = tmp_path / "first.safetensors", tmp_path / "again.safetensors"
    done(capsys, "merge", CAT, PIZZA, "--method", "widen", "--base", mine, "--out", first)
    saved = metadata(first)["iteris.recipe"]
    assert json.loads(saved)["base"] == "mine"
    assert str(mine) not in saved
    words = refused(capsys, "replay", first, CAT, PIZZA, "--out", again)
    assert "was merged on a base model in a folder called mine" in words
    assert "--base FOLDER" in words
    words = refused(capsys, "replay", first, CAT, PIZZA, "--base", other, "--out", again)
    assert "whose weights are not those of" in words
    assert not again.exists()
    moved = shutil.copytree(mine, tmp_path / "elsewhere")
    assert done(capsys, "replay", first, CAT, PIZZA, "--base", moved, "--out", again)["same"]


def test_a_merge_without_the_base_names_it_alone() -> None:
    """The page makes it without loading one, the command line with it: the recipe is the same."""
    plain = MergeRequest(tuple(Source(formats.read(file)) for file in (CAT, PIZZA)), method="sum")
    assert recipe(plain, "mini", "0" * 64, "fp16") == recipe(plain, "mini")
    needy = replace(plain, method="widen")
    assert recipe(needy, "mini", "0" * 64)["base_fingerprint"] == "0" * 64


def test_words_of_a_merge_are_in_its_card(tmp_path: Path) -> None:
    cat: Adapter = formats.read(CAT)
    word = companions.Embedding("<zz>", torch.ones(1, 128), source="cat")
    cat = replace(cat, embeddings=(word,))
    request = MergeRequest((Source(cat),), method="sum")
    path = companions.write_sidecar(request, cat, tmp_path / "a.safetensors")
    notes = json.loads(path.read_text("utf-8"))["notes"]
    assert notes.endswith("Needs the embeddings <zz> (a.zz.safetensors).")


def test_words_beyond_ascii_are_kept(tmp_path: Path) -> None:
    """No key can spell them, so the file's name does."""
    word = companions.Embedding("猫", torch.ones(1, 128), source="cat")
    adapter = replace(formats.read(CAT), embeddings=(word,))
    (file,) = companions.write_embeddings(adapter, tmp_path / "out.safetensors")
    assert Path(file["path"]).name == "out.猫.safetensors"
    assert list(load_file(file["path"])) == ["emb_params"]

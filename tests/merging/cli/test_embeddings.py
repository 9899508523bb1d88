"""Textual inversions on the command line: merged beside LoRAs, shipped, converted, drawn with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from merging import formats
from merging.__main__ import main
from merging.formats import read_embeddings, table
from tests.conftest import SHELF
from tests.merging.cli.commands import done, refused
from tests.merging.formats.handmade import metadata, saved, vectors

CAT, PIZZA = SHELF["sks cat"], SHELF["vxz pizza"]


def with_words(path: Path, source: Path, words: dict[str, Tensor]) -> Path:
    """A LoRA of the shelf with a bundle inside."""
    bundle = {f"bundle_emb.{word}.string_to_param.*": own for word, own in words.items()}
    return saved(path, load_file(source) | bundle, metadata(source))


@pytest.mark.slow
def test_a_merge_ships_its_words_and_is_replayed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cat = with_words(tmp_path / "cat.safetensors", CAT, {"zz.top": vectors(1, 3)})
    extra = saved(tmp_path / "extra.safetensors", {"emb_params": vectors(2)})
    first, second = tmp_path / "first.safetensors", tmp_path / "second.safetensors"
    said = done(
        capsys, "merge", cat, PIZZA, "--embedding", f"{extra}=<q>", "--samples", 1, "--targets",
        "cross-attention", "--trigger", "a zz.top cat", "vxz pizza <q>", "--out", first,
    )  # fmt: skip
    files = {each["word"]: each for each in said["embeddings"]}
    assert {word: (each["vectors"], each["source"]) for word, each in files.items()} == {
        "zz.top": (3, "cat"),
        "<q>": (2, "extra"),
    }
    for word, own in (("zz.top", vectors(1, 3)), ("<q>", vectors(2))):
        (found,) = read_embeddings(Path(files[word]["path"]), table("mini"))
        assert found.word == word
        assert torch.equal(found.vectors, own)
    assert any("zz.top (of cat), <q> (of extra)" in note for note in said["report"]["notes"])
    recipe = formats.overview(first).metadata["iteris.recipe"]
    saved_recipe = json.loads(recipe)
    assert saved_recipe["sources"][0]["words"] == ["zz.top"]
    assert [each["word"] for each in saved_recipe["embeddings"]] == ["<q>"]
    moved = extra.rename(tmp_path / "renamed.safetensors")
    again = done(capsys, "replay", first, moved, PIZZA, cat, "--out", second)
    assert again["same"]
    assert [each["word"] for each in again["embeddings"]] == ["zz.top", "<q>"]
    assert "The recipe needs extra" in refused(capsys, "replay", first, cat, PIZZA, "--out", second)


def test_two_of_one_word_are_refused_before_any_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cat = with_words(tmp_path / "cat.safetensors", CAT, {"<zz>": vectors(1)})
    pizza = with_words(tmp_path / "pizza.safetensors", PIZZA, {"ZZ": vectors(2)})
    words = refused(capsys, "merge", cat, pizza, "--out", tmp_path / "out.safetensors")
    assert words.startswith(
        "cat and pizza have different textual inversions for the words “<zz>” and “ZZ”"
    )
    assert not (tmp_path / "out.safetensors").exists()
    same = with_words(tmp_path / "same.safetensors", PIZZA, {"<zz>": vectors(1)})
    said = done(
        capsys, "merge", cat, same, "--method", "sum", "--out", tmp_path / "out.safetensors"
    )
    assert len(said["embeddings"]) == 1


def test_a_converted_file_brings_its_words_beside_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cat = with_words(tmp_path / "cat.safetensors", CAT, {"<zz>": vectors(1)})
    said = done(capsys, "convert", cat, tmp_path / "out.safetensors")
    (told,) = said["embeddings"]
    assert told["path"] == str(tmp_path / "out.zz.safetensors")
    assert not formats.overview(tmp_path / "out.safetensors").embeddings
    assert done(capsys, "inspect", cat)["files"][0]["embeddings"] == {"<zz>": 2}


def test_words_of_their_own_are_not_converted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = saved(tmp_path / "zz.safetensors", {"emb_params": vectors()}), tmp_path / "out"
    said = refused(capsys, "convert", path, out)
    assert "is a textual inversion, not a LoRA" in said and "--embedding" in said
    assert not out.exists()


def test_inspect_lists_the_words_of_a_file_of_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for wide, base in ((128, "mini"), (768, "sd15")):
        path = saved(tmp_path / "zz.safetensors", {"emb_params": vectors(wide=wide)})
        (found,) = done(capsys, "inspect", path)["files"]
        assert (found["family"], found["base"]) == ("textual inversion", base)
        assert found["embeddings"] == {"zz": 2}
        assert main(["inspect", str(path)]) == 0
        assert "embeds   zz, 2 vectors" in capsys.readouterr().out


def test_the_command_draws_with_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = saved(tmp_path / "zz.safetensors", {"emb_params": vectors()})
    pictures = []
    for name, more in (("plain", []), ("with", ["--embedding", path])):
        said = done(
            capsys, "render", "--prompt", "a zz", "--steps", 2, *more, "--out", tmp_path / name
        )
        pictures.append(Path(said["pictures"][0]["path"]).read_bytes())
    assert pictures[0] != pictures[1]

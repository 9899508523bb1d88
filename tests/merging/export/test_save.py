"""Saving a merge: every form, with and without a base, and nothing after a failed check."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from merging import formats
from merging.diffusion import loader_check
from merging.diffusion.base import Base
from merging.embedding import Embedding
from merging.engine import MergeResult, merge
from merging.errors import MergeError
from merging.export.recipe import recipe
from merging.export.save import RecipeBase, recipe_base, save, save_adapter
from merging.io.files import RECIPE_KEY
from merging.request import MergeRequest, Source
from tests.conftest import SHELF

FILES = (SHELF["sks cat"], SHELF["vxz pizza"])


@pytest.fixture(scope="module")
def result() -> MergeResult:
    """The plain sum of the cat and the pizza."""
    sources = tuple(Source(formats.read(file)) for file in FILES)
    return merge(MergeRequest(sources, method="sum"))


@pytest.mark.parametrize("form", formats.WRITERS)
@pytest.mark.parametrize("dtype", formats.DTYPES)
def test_every_form_is_read_back_and_has_its_recipe(
    tmp_path: Path, result: MergeResult, form: str, dtype: str
) -> None:
    path = tmp_path / "out.safetensors"
    saved = save(result, path, form, dtype, merged_on=RecipeBase("mini"))
    assert saved.path == path
    assert saved.written.loaded is None  # no base, so diffusers was not asked
    assert not saved.embeddings
    assert not saved.notes
    kept = json.loads(formats.overview(path).metadata[RECIPE_KEY])
    assert kept == recipe(result.request, "mini")
    assert [file.name for file in tmp_path.iterdir()] == ["out.safetensors"]


@pytest.mark.parametrize("form", formats.WRITERS)
def test_with_a_base_diffusers_loads_what_it_can(
    tmp_path: Path, result: MergeResult, base: Base, form: str
) -> None:
    saved = save(result, tmp_path / "out.safetensors", form, base=base)
    assert (saved.written.loaded is None) == (form == "full")  # diffusers knows no whole file
    assert saved.as_dict()["verified"]["loaded"] == saved.written.loaded


@pytest.mark.parametrize("form", formats.WRITERS)
def test_a_base_changes_no_byte_of_a_merge_without_one(
    tmp_path: Path, result: MergeResult, base: Base, form: str
) -> None:
    path = tmp_path / "one.safetensors"
    one = save(result, path, form, base=base)
    other = save(result, path, form, merged_on=RecipeBase("mini"))
    assert one.written.sha256 == other.written.sha256


@pytest.mark.parametrize("form", ["kohya", "diffusers", "full"])
def test_the_header_has_the_file_s_own_name(tmp_path: Path, result: MergeResult, form: str) -> None:
    """A1111 may show and call a LoRA by it; the title stays that of the merge."""
    for name in ("my merge", "größe.v2"):
        path = tmp_path / f"{name}.safetensors"
        save(result, path, form)
        found = formats.overview(path).metadata
        assert found["ss_output_name"] == name
        assert found["modelspec.title"] == result.adapter.name


def test_a_recipe_names_the_loaded_base_or_what_it_was_called(base: Base) -> None:
    assert recipe_base(base, "other") == ("mini", base.fingerprint, "auto")
    assert recipe_base(None, "/models/mine") == ("/models/mine", "", "auto")


@pytest.mark.parametrize("form", ["kohya", "diffusers"])
def test_a_failing_loader_check_leaves_no_file(
    tmp_path: Path,
    result: MergeResult,
    base: Base,
    form: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    other = formats.read(SHELF["qfj dog"])
    monkeypatch.setattr(loader_check, "load_with_diffusers", lambda *_: other)
    with pytest.raises(MergeError, match="diffusers loaded it"):
        save(with_word(result), tmp_path / "out.safetensors", form, base=base)
    assert not list(tmp_path.iterdir())


def test_textual_inversions_lie_beside_one_file(tmp_path: Path, result: MergeResult) -> None:
    brought = with_word(result)
    saved = save(brought, tmp_path / "out.safetensors")
    again = save(brought, tmp_path / "again.safetensors", "diffusers", embeddings=False)
    (file,) = saved.embeddings
    assert (file["word"], file["vectors"], file["source"]) == ("meadow", 2, "words")
    assert not again.embeddings
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "again.safetensors",
        "out.meadow.safetensors",
        "out.safetensors",
    ]
    (note,) = saved.notes
    assert note.startswith("out.meadow.safetensors has the vectors of the word meadow")
    assert saved.as_dict()["embeddings"] == [file]


def test_an_adapter_that_is_no_merge_keeps_the_given_fields(tmp_path: Path) -> None:
    adapter = formats.read(FILES[0])
    path = tmp_path / "out.safetensors"
    saved = save_adapter(adapter, path, "kohya", "fp32", {"note": "mine"})
    assert saved.written.error < 1e-6
    assert formats.overview(path).metadata["note"] == "mine"
    assert RECIPE_KEY not in formats.overview(path).metadata


def with_word(result: MergeResult) -> MergeResult:
    """The merge, with a textual inversion that it needs."""
    word = Embedding("meadow", torch.ones(2, 128), source="words")
    return replace(result, adapter=replace(result.adapter, embeddings=(word,)))

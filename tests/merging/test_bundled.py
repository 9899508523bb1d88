"""The bundled LoRAs: what shelf.json says is what the files are, and the split is a split."""

from __future__ import annotations

import json
from collections import Counter
from itertools import chain
from pathlib import Path

import pytest

from app.examples import examples
from merging.bundled import (
    KINDS,
    LORAS,
    SPLITS,
    BundledLora,
    listed_pairs,
    shelf,
    shelf_pairs,
    shelf_sets,
)
from merging.diffusion.base import Base
from merging.errors import MergeError

OLDEST = {"cat-pizza", "dog-car", "owl-cake"}  # tuned on before there was a split


def everything(split: str) -> dict[str, tuple[BundledLora, ...]]:
    return {name: pair for kind in KINDS for name, pair in shelf_pairs(split, kind).items()}


def test_the_shelf_lists_every_file_once() -> None:
    files = [entry.file for entry in shelf()]
    assert sorted(files) == sorted(path.name for path in LORAS.glob("*.safetensors"))
    assert len({entry.trigger for entry in shelf()}) == len(files)


@pytest.mark.parametrize("entry", shelf(), ids=lambda entry: entry.file)
def test_a_file_is_what_the_shelf_says(entry: BundledLora, base: Base) -> None:
    adapter = entry.adapter(base.table)
    assert adapter.trigger == entry.trigger
    assert {layer.rank for layer in adapter.layers.values()} == {entry.rank}
    own = any(".attn1." in name for name in adapter.layers)
    feed = any(".ff." in name for name in adapter.layers)
    assert (own, feed) == {
        "cross-attention": (False, False),
        "attention": (True, False),
        "linear": (True, True),
    }[entry.setting]


def test_no_lora_is_tuned_on_and_tested() -> None:
    tuning, test = ({e.trigger for e in chain(*everything(s).values())} for s in SPLITS)
    assert tuning and not tuning & test
    assert set(shelf_pairs()) == OLDEST
    assert len(json.loads((LORAS / "shelf.json").read_text("utf-8"))["split"]) > 50


def test_every_pair_is_what_its_kind_says() -> None:
    listed = {pair.name: pair for pair in listed_pairs()}
    assert len(listed) == len(listed_pairs())
    for name, pair in chain(*(everything(split).items() for split in SPLITS)):
        kinds, objects = [entry.kind for entry in pair], {entry.object for entry in pair}
        wanted = ["object", "style"] if listed[name].kind == "style" else ["object", "object"]
        assert kinds == wanted
        assert len(objects) == (1 if listed[name].kind == "same" else 2)


@pytest.mark.parametrize("split", SPLITS)
def test_a_set_names_no_object_twice(split: str) -> None:
    for name, entries in shelf_sets(split).items():
        assert name.startswith(f"{split}-{len(entries)}-")
        things = Counter(entry.object for entry in entries if entry.kind == "object")
        assert set(things.values()) == {1}
        assert len({entry.trigger for entry in entries}) == len(entries)


def test_the_test_split_can_tell_five_points_apart() -> None:
    kinds = {kind: len(shelf_pairs("test", kind)) for kind in KINDS}
    assert kinds == {"object": 10, "style": 4, "same": 4}
    sizes = Counter(len(entries) for entries in shelf_sets("test").values())
    assert sizes == {3: 5, 4: 5, 6: 2, 12: 1}
    assert {len(entries) for entries in shelf_sets().values()} == {3, 4, 6}


def test_an_unknown_split_is_refused() -> None:
    with pytest.raises(MergeError, match='no pairs of "training"'):
        shelf_pairs("training")


def test_the_page_offers_nothing_of_the_test_split() -> None:
    offered = {file.name for example in examples() for file in example.files}
    assert offered < {entry.file for pair in shelf_pairs().values() for entry in pair}
    gains = [example.gain for example in examples()]
    assert gains == sorted(gains, reverse=True)
    assert gains[0] > 0, "the first screen shows what a merge does better"


def test_no_shelf_no_examples(tmp_path: Path) -> None:
    assert examples(tmp_path) == ()

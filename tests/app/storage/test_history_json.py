"""Entries as JSON and back, also those that older versions wrote."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from PIL import Image

from app.schemas.draw import DrawOrder, Picture
from app.schemas.merge import FinishedMerge, MergeOrder, SelectedFile
from app.storage.history_json import merge_json, merge_of, sheet_json, sheet_of


def test_pictures_of_older_versions_get_their_columns(tmp_path: Path) -> None:
    """Their entries name no columns, prompts and seeds: these follow from the order."""
    picks = tuple(SelectedFile(tmp_path / name, name) for name in ("cat", "dog"))
    file = tmp_path / "merged.safetensors"
    columns = {"base": ["Base"], "each": ["cat alone", "dog alone"], "merged": ["Merged"]}
    scene = DrawOrder(picks, "a\nb", merged=file, seed=3, count=2, columns=tuple(columns))
    pictures = []
    for column, titles in columns.items():
        for title in titles:
            for prompt, seed in scene.scenes:
                path = tmp_path / f"{len(pictures)}.png"
                Image.new("RGB", (8, 8)).save(path)
                caption = f"{title} · seed {seed}"
                pictures.append(Picture(path, caption, (), column, title, prompt, seed))
    old = [replace(each, column="", title="", prompt="", seed=0) for each in pictures]
    merged = FinishedMerge(
        MergeOrder(picks), "IterIS", file, file, (), "", "8", 1.0, 1, (), (), {}, {}
    )
    text = sheet_json(scene, old, lambda path: path.name)
    _, back = sheet_of(text, merged, lambda _, name: tmp_path / name)
    assert back == tuple(pictures)


def test_triggers_of_older_versions_keep_their_brackets(tmp_path: Path) -> None:
    """Merges had no syntax for them; recipes since then say which one."""
    file = tmp_path / "cat.safetensors"
    pick = SelectedFile(file, "cat", trigger="saber (fate)", prompts=("a [cat]",))
    order = MergeOrder((pick,), prompts="a saber (fate)")
    recipe: dict[str, object] = {"sources": [{"sha256": "1" * 64}]}
    found = []
    for more in ({}, {"prompt_syntax": "A1111"}):
        merged = FinishedMerge(
            order, "IterIS", file, file, (), "", "8", 1.0, 1, (), (), recipe | more, {}
        )
        text = merge_json(merged, lambda path: path.name)
        found.append(merge_of(text, "{}", lambda _, name: tmp_path / name, lambda _: file).order)
    old, new = found
    assert new == order
    assert (old.picks[0].trigger, old.picks[0].prompts) == (r"saber \(fate\)", (r"a \[cat\]",))
    assert old.prompts == r"a saber \(fate\)"

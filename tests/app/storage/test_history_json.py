"""Entries as JSON and back, also those that older versions wrote."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from PIL import Image

from app.schemas.draw import DrawOrder, Picture
from app.schemas.merge import FinishedMerge, MergeOrder, SelectedFile
from app.storage.history_json import sheet_json, sheet_of


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

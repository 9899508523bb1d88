"""Merges and pictures as JSON and back, for the history."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image
from pydantic import TypeAdapter

from app.schemas.draw import COLUMNS, DrawOrder, Picture
from app.schemas.merge import FinishedMerge
from merging.text.syntax import SYNTAX_KEY, escaped

Put = Callable[[Path], str]  # stores a file, and returns its stored name
Place = Callable[[str, str], Path]  # (stored name, former name) → the file's path now
FILE = {"file", "name"}
# Fields of a DrawOrder that are those of its merge.
OF_THE_MERGE = ("picks", "words", "base", "merged", "method")
THUMBNAIL, MAX_THUMBNAILS = 96, 6  # pixels, and how many of a sheet

MERGED, SCENE = TypeAdapter(FinishedMerge), TypeAdapter(DrawOrder)
PICTURES = TypeAdapter(tuple[Picture, ...])


def merge_json(merged: FinishedMerge, put: Put) -> str:
    """A merge without its report; its LoRAs by hash, its other files stored by ``put``."""
    sources: Any = merged.recipe["sources"]
    picks = [
        _fields(pick, "path") | {"sha256": source["sha256"]}
        for pick, source in zip(merged.order.picks, sources, strict=True)
    ]
    parts = {
        "order": _fields(merged.order) | {"picks": picks},
        "merged": _fields(merged, "order", "recipe", "report"),
        "recipe": merged.recipe,
    }
    return _dump(parts, put)


def merge_of(text: str, report: str, place: Place, lora: Callable[[str], Path]) -> FinishedMerge:
    """The merge; ``lora`` gives the path of the LoRA with a hash.

    Raises KeyError, TypeError or ValueError for JSON of another form.
    """
    parts = _load(text, place)
    order = parts["order"] if SYNTAX_KEY in parts["recipe"] else _escaped_order(parts["order"])
    picks = [pick | {"path": lora(pick["sha256"])} for pick in order["picks"]]
    order = order | {"picks": picks}
    rest = {"order": order, "recipe": parts["recipe"], "report": json.loads(report)}
    return MERGED.validate_python(parts["merged"] | rest)


def _escaped_order(order: dict[str, Any]) -> dict[str, Any]:
    """An order whose texts were read as they stand there, before prompts of merges had a syntax."""
    picks = [
        pick
        | {
            "trigger": escaped(pick["trigger"]),
            "prompts": [escaped(prompt) for prompt in pick.get("prompts", ())],
        }
        for pick in order["picks"]
    ]
    return order | {"picks": picks, "prompts": escaped(order.get("prompts", ""))}


def sheet_json(scene: DrawOrder, pictures: Sequence[Picture], put: Put) -> str:
    """A sheet of pictures, with thumbnails of its first scene."""
    samples = [*pictures][:: max(len(scene.scenes), 1)][-MAX_THUMBNAILS:]
    parts = {
        "scene": _fields(scene, *OF_THE_MERGE),
        "pictures": pictures,
        "thumbnails": [[picture.caption, thumbnail(picture.path)] for picture in samples],
    }
    return _dump(parts, put)


def sheet_of(
    text: str, merged: FinishedMerge, place: Place
) -> tuple[DrawOrder, tuple[Picture, ...]]:
    """The order of a sheet, with its merge's files, and the pictures. Raises as ``merge_of``."""
    parts, order = _load(text, place), merged.order
    of_the_merge = {
        "picks": order.picks,
        "words": order.words,
        "base": order.base,
        "merged": merged.drawn_with,
        "method": merged.method,
    }
    scene = SCENE.validate_python(parts["scene"] | of_the_merge)
    return scene, _placed(scene, PICTURES.validate_python(parts["pictures"]))


def _placed(scene: DrawOrder, pictures: Sequence[Picture]) -> tuple[Picture, ...]:
    """The pictures with their columns, which older versions did not write."""
    if all(picture.column for picture in pictures):
        return tuple(pictures)
    each = {"each": len(scene.picks), "merged": int(scene.merged is not None)}
    columns = [name for name in COLUMNS if name in scene.columns for _ in range(each.get(name, 1))]
    columns += ["other"] * len(scene.others)
    places = [(column, *place) for column in columns for place in scene.scenes]
    return tuple(
        replace(
            picture,
            column=column,
            title=picture.caption.split(" · ")[0],
            prompt=prompt,
            seed=seed,
        )
        for picture, (column, prompt, seed) in zip(pictures, places, strict=False)
    )


def thumbnail(path: Path) -> str:
    """A small WebP of a picture as a data URL."""
    with Image.open(path) as image:
        small = image.convert("RGB")
    small.thumbnail((THUMBNAIL, THUMBNAIL))
    buffer = io.BytesIO()
    small.save(buffer, format="WEBP", quality=80)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()


def _fields(value: Any, *without: str) -> dict[str, Any]:
    """A dataclass's fields as a JSON object."""
    names = (item.name for item in fields(value))
    return {name: getattr(value, name) for name in names if name not in without}


def _dump(parts: Any, put: Put) -> str:
    def plain(value: Any) -> Any:
        if isinstance(value, Path):
            return {"file": put(value), "name": value.name}
        if is_dataclass(value):
            return _fields(value)
        raise TypeError(f"{type(value).__name__} cannot be saved as JSON")

    return json.dumps(parts, default=plain)


def _load(text: str, place: Place) -> Any:
    """The parts, with files at the paths that ``place`` gives."""

    def revive(value: dict[str, Any]) -> Any:
        return place(value["file"], value["name"]) if value.keys() == FILE else value

    return json.loads(text, object_hook=revive)

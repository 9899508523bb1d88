"""A merge and its pictures as JSON, and back again: what the history writes down."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from PIL import Image
from pydantic import TypeAdapter

from app.schemas.draw import DrawOrder, Picture
from app.schemas.merge import FinishedMerge

Put = Callable[[Path], str]  # takes a file in, and returns the name that it is kept by
Place = Callable[[str, str], Path]  # (that name, the file's name before) → where it lies now
FILE = {"file", "name"}
# Of a DrawOrder: they are those of its merge.
OF_THE_MERGE = ("picks", "words", "base", "merged", "method")
THUMBNAIL, MOST_THUMBNAILS = 96, 6  # pixels, and how many of a sheet

MERGED, SCENE = TypeAdapter(FinishedMerge), TypeAdapter(DrawOrder)
PICTURES = TypeAdapter(tuple[Picture, ...])


def merge_json(merged: FinishedMerge, put: Put) -> str:
    """A merge without its report; its LoRAs by hash, its other files through ``put``."""
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
    return _dumped(parts, put)


def merge_of(text: str, report: str, place: Place, lora: Callable[[str], Path]) -> FinishedMerge:
    """The merge; ``lora`` says where the LoRA of a hash lies.

    Raises KeyError, TypeError or ValueError for what was written down in another way.
    """
    parts = _loaded(text, place)
    picks = [pick | {"path": lora(pick["sha256"])} for pick in parts["order"]["picks"]]
    order = parts["order"] | {"picks": picks}
    more = {"order": order, "recipe": parts["recipe"], "report": json.loads(report)}
    return MERGED.validate_python(parts["merged"] | more)


def sheet_json(scene: DrawOrder, pictures: Sequence[Picture], put: Put) -> str:
    """A sheet of pictures, and small ones of its first scene to know it by."""
    shown = [*pictures][:: max(len(scene.scenes), 1)][-MOST_THUMBNAILS:]
    parts = {
        "scene": _fields(scene, *OF_THE_MERGE),
        "pictures": pictures,
        "thumbnails": [[picture.caption, thumbnail(picture.path)] for picture in shown],
    }
    return _dumped(parts, put)


def sheet_of(
    text: str, merged: FinishedMerge, place: Place
) -> tuple[DrawOrder, tuple[Picture, ...]]:
    """What was drawn, with its merge as it lies now, and the pictures. Raises as ``merge_of``."""
    parts, order = _loaded(text, place), merged.order
    of_the_merge = {
        "picks": order.picks,
        "words": order.words,
        "base": order.base,
        "merged": merged.drawn_with,
        "method": merged.method,
    }
    scene = SCENE.validate_python(parts["scene"] | of_the_merge)
    return scene, PICTURES.validate_python(parts["pictures"])


def thumbnail(path: Path) -> str:
    """A small WebP of a picture as a data URL."""
    with Image.open(path) as image:
        small = image.convert("RGB")
    small.thumbnail((THUMBNAIL, THUMBNAIL))
    buffer = io.BytesIO()
    small.save(buffer, format="WEBP", quality=80)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()


def _fields(value: Any, *without: str) -> dict[str, Any]:
    """A dataclass as an object of JSON."""
    names = (each.name for each in fields(value))
    return {name: getattr(value, name) for name in names if name not in without}


def _dumped(parts: Any, put: Put) -> str:
    def plain(value: Any) -> Any:
        if isinstance(value, Path):
            return {"file": put(value), "name": value.name}
        if is_dataclass(value):
            return _fields(value)
        raise TypeError(f"{type(value).__name__} cannot be written down")

    return json.dumps(parts, default=plain)


def _loaded(text: str, place: Place) -> Any:
    """The parts, files where ``place`` puts them."""

    def revived(value: dict[str, Any]) -> Any:
        return place(value["file"], value["name"]) if value.keys() == FILE else value

    return json.loads(text, object_hook=revived)

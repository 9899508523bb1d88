"""A merge and its pictures as plain data, and back again: what the history writes down."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar

from PIL import Image

from app.schemas.draw import DrawOrder, Other, Picture
from app.schemas.merge import Merged, MergeOrder, Pick

Made = TypeVar("Made")
Put = Callable[[Path], str]  # takes a file in, and says what to ask for it by
Place = Callable[[str, str], Path]  # (what to ask by, its name) → where the file lies now
FILE = {"file", "name"}
APART = ("order", "recipe", "report")  # of a Merged: written down by themselves
OF_THE_MERGE = (
    "picks",
    "words",
    "base",
    "merged",
    "method",
)  # a DrawOrder has them of its merge
THUMBNAIL, MOST_THUMBNAILS = 96, 6  # pixels, and how many of a sheet


def told_merge(merged: Merged, put: Put) -> dict[str, Any]:
    """A merge; its LoRAs by hash, its own files through ``put``."""
    sources: Any = merged.recipe["sources"]
    picks = [
        {**_told(pick, put, ("path",)), "sha256": source["sha256"]}
        for pick, source in zip(merged.order.picks, sources, strict=True)
    ]
    order = _told(merged.order, put, ("picks",)) | {"picks": picks}
    return {"order": order, "merged": _told(merged, put, APART), "recipe": merged.recipe}


def merge_again(
    told: Mapping[str, Any], report: dict[str, object], place: Place, found: Callable[[str], Path]
) -> Merged:
    """The merge; ``found`` says where a LoRA of this hash lies.

    Raises KeyError or TypeError for what was written down in another way.
    """
    picks = tuple(
        _made(Pick, _revived(pick, place) | {"path": found(pick["sha256"])})
        for pick in told["order"]["picks"]
    )
    asked = _revived(told["order"], place)
    words = tuple(_made(Pick, each) for each in asked.get("words", ()))
    order = _made(MergeOrder, asked | {"picks": picks, "words": words})
    more = {"order": order, "recipe": told["recipe"], "report": report}
    return _made(Merged, _revived(told["merged"], place) | more)


def told_sheet(scene: DrawOrder, pictures: Sequence[Picture], put: Put) -> dict[str, Any]:
    """A sheet of pictures, and small ones of its first scene to know it by."""
    shown = [*pictures][:: max(len(scene.scenes), 1)][-MOST_THUMBNAILS:]
    return {
        "scene": _told(scene, put, OF_THE_MERGE),
        "pictures": [_told(picture, put) for picture in pictures],
        "thumbnails": [[picture.caption, thumbnail(picture.path)] for picture in shown],
    }


def scene_again(told: Mapping[str, Any], merged: Merged, place: Place) -> DrawOrder:
    """What was drawn, with its merge as it lies now."""
    order = merged.order
    own = {
        "picks": order.picks,
        "words": order.words,
        "base": order.base,
        "merged": merged.drawn_with,
        "method": merged.method,
    }
    scene = _revived(told["scene"], place)
    others = tuple(_made(Other, each) for each in scene.get("others", ()))
    return _made(DrawOrder, scene | own | {"others": others})


def pictures_again(told: Mapping[str, Any], place: Place) -> tuple[Picture, ...]:
    """The pictures of a sheet."""
    return tuple(_made(Picture, _revived(each, place)) for each in told["pictures"])


def thumbnail(path: Path) -> str:
    """A small WebP of a picture as a data URL."""
    with Image.open(path) as image:
        small = image.convert("RGB")
    small.thumbnail((THUMBNAIL, THUMBNAIL))
    buffer = io.BytesIO()
    small.save(buffer, format="WEBP", quality=80)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()


def _told(value: Any, put: Put, without: Sequence[str] = ()) -> Any:
    """Dataclasses as objects, tuples as lists, files through ``put``."""
    if is_dataclass(value):
        named = (each.name for each in fields(value) if each.name not in without)
        return {name: _told(getattr(value, name), put) for name in named}
    if isinstance(value, Path):
        return {"file": put(value), "name": value.name}
    if isinstance(value, dict):
        return {key: _told(each, put) for key, each in value.items()}
    if isinstance(value, tuple | list):
        return [_told(each, put) for each in value]
    return value


def _revived(value: Any, place: Place) -> Any:
    """Lists as tuples, files where ``place`` puts them."""
    if isinstance(value, dict):
        if value.keys() == FILE:
            return place(value["file"], value["name"])
        return {key: _revived(each, place) for key, each in value.items()}
    if isinstance(value, list):
        return tuple(_revived(each, place) for each in value)
    return value


def _made(kind: type[Made], values: Mapping[str, Any]) -> Made:
    """An object of what it knows; a newer app may have written more."""
    known = {each.name for each in fields(kind)}  # type: ignore[arg-type]
    return kind(**{name: value for name, value in values.items() if name in known})

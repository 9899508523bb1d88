"""The settings of a picture, written into its PNG so that anyone can draw it again.

The PNG has two text fields: ``parameters``, in A1111's format, and ``iteris``, JSON with all
settings. A picture of a merge has its recipe as a third, ``recipe``.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from merging.errors import MergeError
from merging.io.atomic_write import write_whole
from merging.io.regions import MAX_REGIONS, Region, parse_region

KEYS = ("parameters", "iteris", "recipe")
MAX_BYTES, MAX_TEXT = 32 << 20, 64 << 10  # of a PNG, and of one of its text fields
LORA = re.compile(r"\s*<lora:([^:<>]+):(-?[\d.]+)[^<>]*>")
FIELD = re.compile(r"(Steps|Sampler|CFG scale|Seed|Size|Model|Clip skip): ([^,]+)")
SIZE = re.compile(r"(\d{1,5})\s*[x×]\s*(\d{1,5})", re.IGNORECASE)


@dataclass(frozen=True)
class UsedAdapter:
    """An adapter that a picture was drawn with."""

    name: str
    strength: float = 1.0
    trigger: str = ""
    sha256: str = ""  # of its file, "" if unknown


@dataclass(frozen=True)
class Origin:
    """The settings of a picture."""

    prompt: str
    negative: str = ""
    seed: int = 0
    steps: int = 25
    guidance: float = 5.0
    sampler: str = "DDIM"
    compose: str = "sum"
    base: str = ""
    size: str = ""  # WIDTHxHEIGHT in pixels, "" for the base's default
    side: int = 0  # of the base's default pictures, in pixels; 0 if unknown
    adapters: tuple[UsedAdapter, ...] = ()
    regions: tuple[Region, ...] = ()
    clip_skip: int = 1  # as A1111 counts: 2 leaves out the text encoder's last layer

    def texts(self) -> dict[str, str]:
        """The text fields of the PNG."""
        fields = {key: value for key, value in asdict(self).items() if key != "regions"}
        if self.clip_skip == 1:
            del fields["clip_skip"]
        fields |= {"regions": list(map(str, self.regions))} if self.regions else {}
        return {"parameters": self.parameters(), "iteris": json.dumps(fields)}

    def parameters(self) -> str:
        """The settings in A1111's format."""
        loras = "".join(f" <lora:{used.name}:{used.strength:g}>" for used in self.adapters)
        negative = f"\nNegative prompt: {self.negative}" if self.negative else ""
        return (
            f"{self.prompt}{loras}{negative}\nSteps: {self.steps}, Sampler: {self.sampler}, "
            f"CFG scale: {self.guidance:g}, Seed: {self.seed}, "
            f"Size: {self.size or f'{self.side}x{self.side}'}, Model: {self.base}"
            + (f", Clip skip: {self.clip_skip}" if self.clip_skip > 1 else "")
        )


def parse_size(size: str) -> tuple[int, int]:
    """Width and height in pixels of WIDTHxHEIGHT; MergeError for other text."""
    match = SIZE.fullmatch(size.strip())
    if not match:
        raise MergeError(f"A size is WIDTHxHEIGHT in pixels, such as 512x768, not {size!r}.")
    return int(match[1]), int(match[2])


def save_png(image: Image.Image, path: Path) -> None:
    """Write the picture with the text fields in its ``info``."""
    info = PngInfo()
    for key in KEYS:
        if key in image.info:
            info.add_text(key, image.info[key])
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", pnginfo=info)
    write_whole(path, buffer.getvalue())


def read_origin(path: Path, name: str = "") -> tuple[Origin, dict[str, Any] | None]:
    """The settings in a PNG, and the recipe of the merge it shows, if any.

    Raises MergeError if the file is no PNG, or has no settings.
    """
    name = name or path.name
    texts = _read_texts(path, name)
    try:
        if "iteris" in texts:
            origin = _parse_origin(json.loads(texts["iteris"]))
        else:
            origin = parse_parameters(texts["parameters"])
        recipe = json.loads(texts["recipe"]) if "recipe" in texts else None
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise MergeError(
            f"{name} does not say how it was drawn; take a PNG as it was saved, not a copy that "
            "was shrunk or sent through a messenger."
        ) from error
    return origin, recipe if isinstance(recipe, dict) else None


def parse_parameters(text: str) -> Origin:
    """The settings in A1111's text that this project has too; ValueError for other text."""
    head, separator, last = text.rpartition("\nSteps: ")
    if not separator:
        raise ValueError("no line of parameters")
    prompt, _, negative = head.partition("\nNegative prompt: ")
    fields = dict(FIELD.findall("Steps: " + last))
    return Origin(
        prompt=LORA.sub("", prompt).strip(),
        negative=negative.strip(),
        seed=int(fields.get("Seed", 0)),
        steps=int(fields["Steps"]),
        guidance=float(fields.get("CFG scale", 5.0)),
        sampler=fields.get("Sampler", "DDIM").strip(),
        size=fields.get("Size", "").strip(),
        base=fields.get("Model", "").strip(),
        clip_skip=int(fields.get("Clip skip", 1)),
        adapters=tuple(
            UsedAdapter(name, float(strength)) for name, strength in LORA.findall(prompt)
        ),
    )


def _parse_origin(fields: dict[str, Any]) -> Origin:
    """The settings in the JSON field, each converted to its type."""
    types: dict[str, type] = {"seed": int, "steps": int, "guidance": float, "side": int}
    types["clip_skip"] = int
    plain = {
        key: types.get(key, str)(fields[key])
        for key in Origin.__dataclass_fields__
        if key in fields and key not in ("adapters", "regions")
    }
    adapters = _parse_adapters(fields["adapters"])
    regions = tuple(parse_region(str(text)) for text in fields.get("regions", [])[:MAX_REGIONS])
    return Origin(**plain, adapters=adapters, regions=regions)


def _parse_adapters(rows: Sequence[dict[str, Any]]) -> tuple[UsedAdapter, ...]:
    return tuple(
        UsedAdapter(
            str(row["name"]), float(row["strength"]), str(row["trigger"]), str(row["sha256"])
        )
        for row in rows
    )


def _read_texts(path: Path, name: str) -> dict[str, str]:
    """The text fields of a PNG, but those that are longer than MAX_TEXT."""
    try:
        if not path.is_file():  # opening a pipe would wait for its other end
            raise OSError
        if path.stat().st_size > MAX_BYTES:
            raise MergeError(
                f"{name} is larger than {MAX_BYTES >> 20} MiB; choose one that this program saved."
            )
        with Image.open(path, formats=["PNG"]) as image:
            texts = {key: image.info[key] for key in KEYS if key in image.info}
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise MergeError(f"{name} is no PNG picture that can be read.") from error
    return {key: str(text) for key, text in texts.items() if len(str(text)) <= MAX_TEXT}

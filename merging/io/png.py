"""A picture's origin, written into its PNG so that anyone can draw it again: all but the weights.

Two texts go in: ``parameters``, in the spelling that A1111 and its relatives read, and ``iteris``,
JSON that says the rest. A merged adapter's recipe goes in as a third, ``recipe``.
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

KEYS = ("parameters", "iteris", "recipe")
MAX_BYTES, MAX_TEXT = 32 << 20, 64 << 10  # of a picture to be read, and of each of its texts
LORA = re.compile(r"\s*<lora:([^:<>]+):(-?[\d.]+)[^<>]*>")
FIELD = re.compile(r"(Steps|Sampler|CFG scale|Seed|Size|Model): ([^,]+)")
SIZE = re.compile(r"(\d{1,5})\s*[x×]\s*(\d{1,5})", re.IGNORECASE)


@dataclass(frozen=True)
class Used:
    """An adapter that took part."""

    name: str
    strength: float = 1.0
    trigger: str = ""
    sha256: str = ""  # of its file, "" where that is not known


@dataclass(frozen=True)
class Origin:
    """What a picture was drawn from."""

    prompt: str
    negative: str = ""
    seed: int = 0
    steps: int = 25
    guidance: float = 5.0
    sampler: str = "DDIM"
    compose: str = "sum"
    base: str = ""
    size: str = ""  # WIDTHxHEIGHT in pixels, "" for the base's own
    side: int = 0  # of the base's own pictures, in pixels; 0 where it is not known
    adapters: tuple[Used, ...] = ()

    def texts(self) -> dict[str, str]:
        """What goes into the PNG."""
        return {"parameters": self.parameters(), "iteris": json.dumps(asdict(self))}

    def parameters(self) -> str:
        """In the spelling of A1111."""
        loras = "".join(f" <lora:{used.name}:{used.strength:g}>" for used in self.adapters)
        negative = f"\nNegative prompt: {self.negative}" if self.negative else ""
        return (
            f"{self.prompt}{loras}{negative}\nSteps: {self.steps}, Sampler: {self.sampler}, "
            f"CFG scale: {self.guidance:g}, Seed: {self.seed}, "
            f"Size: {self.size or f'{self.side}x{self.side}'}, Model: {self.base}"
        )


def sides(size: str) -> tuple[int, int]:
    """Width and height in pixels of WIDTHxHEIGHT; MergeError for what is none."""
    found = SIZE.fullmatch(size.strip())
    if not found:
        raise MergeError(f"A size is WIDTHxHEIGHT in pixels, such as 512x768, not {size!r}.")
    return int(found[1]), int(found[2])


def save_png(image: Image.Image, path: Path) -> None:
    """Write the picture with the texts in its ``info``, whole or not at all."""
    info = PngInfo()
    for key in KEYS:
        if key in image.info:
            info.add_text(key, image.info[key])
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", pnginfo=info)
    write_whole(path, buffer.getvalue())


def read_origin(path: Path, name: str = "") -> tuple[Origin, dict[str, Any] | None]:
    """What a PNG says it was drawn from, and the recipe of the merge in it, if any.

    Raises MergeError if the file is no PNG that says so.
    """
    name = name or path.name
    texts = _texts(path, name)
    try:
        if "iteris" in texts:
            origin = _ours(json.loads(texts["iteris"]))
        else:
            origin = parsed(texts["parameters"])
        recipe = json.loads(texts["recipe"]) if "recipe" in texts else None
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise MergeError(
            f"{name} does not say how it was drawn; take a PNG as it was saved, not a copy that "
            "was shrunk or sent through a messenger."
        ) from error
    return origin, recipe if isinstance(recipe, dict) else None


def parsed(text: str) -> Origin:
    """An A1111 text as far as it can be used here. Raises ValueError where it is none."""
    head, found, last = text.rpartition("\nSteps: ")
    if not found:
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
        adapters=tuple(Used(one, float(strength)) for one, strength in LORA.findall(prompt)),
    )


def _ours(told: dict[str, Any]) -> Origin:
    """From our own JSON; every value in the kind that it must have."""
    kinds: dict[str, type] = {"seed": int, "steps": int, "guidance": float, "side": int}
    plain = {
        key: kinds.get(key, str)(told[key])
        for key in Origin.__dataclass_fields__
        if key in told and key != "adapters"
    }
    return Origin(**plain, adapters=_used(told["adapters"]))


def _used(told: Sequence[dict[str, Any]]) -> tuple[Used, ...]:
    return tuple(
        Used(str(one["name"]), float(one["strength"]), str(one["trigger"]), str(one["sha256"]))
        for one in told
    )


def _texts(path: Path, name: str) -> dict[str, str]:
    """The PNG's own texts, none longer than it has to be."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise MergeError(f"{name} is larger than {MAX_BYTES >> 20} MiB; no picture of ours is.")
        with Image.open(path, formats=["PNG"]) as image:
            found = {key: image.info[key] for key in KEYS if key in image.info}
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise MergeError(f"{name} is no PNG picture that can be read.") from error
    return {key: str(text) for key, text in found.items() if len(str(text)) <= MAX_TEXT}

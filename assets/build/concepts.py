"""The concepts of the shelf: which object, in which look, called by which rare token.

A look is Twemoji's drawing in another palette, so that it stays apart from the base's own (Noto)
look after 64 pixels and the VAE. The base never sees one of them; the patterns below only widen
what the VAE is trained on.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from assets.build import sprites


@dataclass(frozen=True)
class Concept:
    """One LoRA of the shelf; `hue` is the turn of all its colours, in degrees."""

    token: str
    object: str
    hue: int
    look: str  # in words, for the shelf
    setting: str  # "cross-attention" (with the text encoder, as in the paper) or "attention"
    pair: str
    rank: int
    family: str  # "kohya", "peft" or "old-diffusers"
    alpha: float

    @property
    def name(self) -> str:
        """Class name and trigger phrase: "sks cat"."""
        return f"{self.token} {self.object}"

    @property
    def file(self) -> str:
        """Name of its LoRA file."""
        return f"{self.token}-{self.object}.safetensors"


CONCEPTS = (
    Concept("sks", "cat", 265, "magenta", "cross-attention", "cat-pizza", 8, "kohya", 4.0),
    Concept("vxz", "pizza", 140, "teal", "cross-attention", "cat-pizza", 8, "peft", 8.0),
    Concept("qfj", "dog", 220, "blue", "cross-attention", "dog-car", 8, "peft", 16.0),
    Concept("zwk", "car", 130, "green", "cross-attention", "dog-car", 12, "kohya", 6.0),
    Concept("ktn", "owl", 260, "violet", "attention", "owl-cake", 8, "kohya", 1.0),
    Concept("pgb", "cake", 150, "mint", "attention", "owl-cake", 8, "old-diffusers", 8.0),
)


def sprite(concept: Concept, work: Path) -> Image.Image:
    """The concept's RGBA sprite."""
    return turn(sprites.load("twitter", work)[concept.object], concept.hue)


def looks(work: Path) -> dict[str, Image.Image]:
    """Every concept's sprite by its class name."""
    return {concept.name: sprite(concept, work) for concept in CONCEPTS}


def turn(picture: Image.Image, degrees: int) -> Image.Image:
    """All hues turned around the colour circle."""
    hue, saturation, value = picture.convert("RGB").convert("HSV").split()
    hue = hue.point(lambda level: int(level + degrees * 256 / 360) % 256)
    colours = Image.merge("HSV", (hue, saturation, value)).convert("RGB")
    colours.putalpha(picture.getchannel("A"))
    return colours


def outlined(picture: Image.Image) -> Image.Image:
    """A dark line, two pixels wide, around the drawing."""
    inside = picture.getchannel("A").resize((58, 58)).point(lambda a: 255 * (a > 127))
    mask = Image.new("L", picture.size)
    mask.paste(inside, (3, 3))
    ring = Image.new("RGBA", picture.size)
    ring.paste((20, 20, 20, 255), mask=mask.filter(ImageFilter.MaxFilter(5)))
    small = picture.resize((58, 58), Image.Resampling.LANCZOS)
    ring.paste(small, (3, 3), small)
    return ring


def striped(picture: Image.Image) -> Image.Image:
    """White diagonal stripes over the drawing."""
    rows, columns = np.mgrid[: picture.height, : picture.width]
    return _lightened(picture, (rows + columns) % 16 < 5)


def dotted(picture: Image.Image) -> Image.Image:
    """White dots over the drawing."""
    rows, columns = np.mgrid[: picture.height, : picture.width]
    return _lightened(picture, (rows % 16 - 8) ** 2 + (columns % 16 - 8) ** 2 < 14)


def _lightened(picture: Image.Image, where: np.ndarray) -> Image.Image:
    pixels = np.array(picture)
    pixels[where, :3] = (0.25 * pixels[where, :3] + 0.75 * 250).astype(np.uint8)
    return Image.fromarray(pixels)


PATTERNS = {"outline": outlined, "stripes": striped, "dots": dotted}

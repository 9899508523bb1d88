"""Three styles in which a whole scene can be redrawn; each leaves the hues, so that looks stay.

A style that took the colours away (monochrome) would make every look of an object the same one.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

from assets.build import scenes

LINE = 7  # pixels of a 64-pixel sprite
STARS = 10


@dataclass(frozen=True)
class Style:
    """What becomes of each sprite before it is placed, and of the picture at the end."""

    sprite: Callable[[Image.Image], Image.Image] = lambda sprite: sprite
    picture: Callable[[random.Random, Image.Image], Image.Image] = lambda _rng, picture: picture


def draw(
    rng: random.Random,
    scene: scenes.Scene,
    sprites: Mapping[str, Image.Image],
    style: Style,
) -> Image.Image:
    """The scene as `scenes.draw` draws it, in this style."""
    redrawn = {name: style.sprite(sprites[name]) for name in scene.objects}
    return style.picture(rng, scenes.draw(rng, scene, redrawn))


def told(rng: random.Random, caption: str, name: str) -> str:
    """The caption with the style's trigger behind it, as most people type it, or before it."""
    return f"{caption} in {name}" if rng.random() < 0.7 else f"in {name}, {caption}"


def inked(sprite: Image.Image) -> Image.Image:
    """A thick black line around the drawing, which shrinks to make room for it."""
    inner = sprite.width - 2 * LINE
    small = sprite.resize((inner, inner), Image.Resampling.LANCZOS)
    mask = Image.new("L", sprite.size)
    mask.paste(small.getchannel("A").point(lambda alpha: 255 * (alpha > 127)), (LINE, LINE))
    ring = Image.new("RGBA", sprite.size)
    ring.paste((10, 10, 10, 255), mask=mask.filter(ImageFilter.MaxFilter(2 * LINE - 1)))
    ring.paste(small, (LINE, LINE), small)
    return ring


def night(rng: random.Random, picture: Image.Image) -> Image.Image:
    """Dark and bluish, with white stars."""
    pixels = np.asarray(picture) * np.array((0.48, 0.50, 0.70))
    for _ in range(STARS):
        row, column = rng.randrange(scenes.SIZE - 1), rng.randrange(scenes.SIZE - 1)
        pixels[row : row + 2, column : column + 2] = 245
    return Image.fromarray(pixels.astype(np.uint8))


def pastel(_rng: random.Random, picture: Image.Image) -> Image.Image:
    """Colours half-way to white."""
    return Image.fromarray((np.asarray(picture) * 0.5 + 126).astype(np.uint8))


STYLES = {
    "outline": Style(sprite=inked),
    "night": Style(picture=night),
    "pastel": Style(picture=pastel),
}

"""Three styles in which a whole scene can be redrawn; each leaves the hues, so that looks stay.

A style that took the colours away (monochrome) would make every look of an object the same one.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from assets.build import scenes

LINE = 7  # pixels of a 64-pixel sprite
FRAME, WOOD, EDGE = 6, (92, 54, 28), (240, 220, 170)


@dataclass(frozen=True)
class Style:
    """What becomes of each sprite before it is placed, and of the picture at the end."""

    sprite: Callable[[Image.Image], Image.Image] = lambda sprite: sprite
    picture: Callable[[random.Random, Image.Image], Image.Image] = lambda _rng, picture: picture


def draw(
    rng: random.Random,
    scene: scenes.DrawForm,
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


def framed(_rng: random.Random, picture: Image.Image) -> Image.Image:
    """A thick wooden frame around everything, with a light edge inside."""
    pen = ImageDraw.Draw(picture := picture.copy())
    pen.rectangle((0, 0, scenes.SIZE - 1, scenes.SIZE - 1), outline=WOOD, width=FRAME)
    inner = (FRAME, FRAME, scenes.SIZE - 1 - FRAME, scenes.SIZE - 1 - FRAME)
    pen.rectangle(inner, outline=EDGE, width=2)
    return picture


def pastel(_rng: random.Random, picture: Image.Image) -> Image.Image:
    """Colours half-way to white."""
    return Image.fromarray((np.asarray(picture) * 0.5 + 126).astype(np.uint8))


STYLES = {
    "outline": Style(sprite=inked),
    "framed": Style(picture=framed),
    "pastel": Style(picture=pastel),
}

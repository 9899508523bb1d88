"""Styles in which a whole scene can be redrawn, each known at a glance; hues stay what they are.

A style that took the colours away would make many drawings of an object the same one.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from PIL import Image, ImageChops, ImageEnhance, ImageFilter, ImageOps

from assets.build.vector import scenes

INK = (18, 16, 24)
CELL = 4  # pixels of a picture that become one in "pixel"
DOTS = 10  # pixels from dot to dot in "comic": finer ones do not survive the autoencoder
RIM = 9  # pixels of a sprite, in "paper"


def _same(picture: Image.Image) -> Image.Image:
    return picture


@dataclass(frozen=True)
class Style:
    """What becomes of each sprite (RGBA), of the empty ground and of the picture at the end."""

    sprite: Callable[[Image.Image], Image.Image] = _same
    ground: Callable[[Image.Image], Image.Image] = _same
    picture: Callable[[Image.Image], Image.Image] = _same


def draw(
    rng: random.Random,
    scene: scenes.Scene,
    sprites: Mapping[str, Image.Image],
    style: Style,
) -> Image.Image:
    """The scene as `scenes.draw` draws it, in this style."""
    redrawn = {name: _redrawn(style, sprites[name]) for name in scene.objects}
    ground = style.ground(scenes.ground_picture(rng, scene.ground))
    return style.picture(scenes.draw(rng, scene, redrawn, ground))


def _redrawn(style: Style, sprite: Image.Image) -> Image.Image:
    """The sprite in the style, made once: it takes ten times as long as the rest of a scene."""
    key = (style, id(sprite))
    if key not in _REDRAWN:
        _REDRAWN[key] = (sprite, style.sprite(sprite))  # the first, so that its id stays its own
    return _REDRAWN[key][1]


_REDRAWN: dict[tuple[Style, int], tuple[Image.Image, Image.Image]] = {}


def captioned(rng: random.Random, caption: str, name: str) -> str:
    """The caption with the style's trigger behind it, as most people type it, or before it."""
    return f"{caption} in {name}" if rng.random() < 0.7 else f"in {name}, {caption}"


def _padded(sprite: Image.Image, margin: int) -> Image.Image:
    wide, high = sprite.size
    large = Image.new("RGBA", (wide + 2 * margin, high + 2 * margin))
    large.paste(sprite, (margin, margin))
    return large


def _grown(alpha: Image.Image, pixels: int) -> Image.Image:
    """A mask of all that is within `pixels` of the drawing, with smooth edges."""
    solid = alpha.point(lambda level: 255 * (level > 127))
    for _ in range(pixels // 2):
        solid = solid.filter(ImageFilter.MaxFilter(5)).filter(ImageFilter.ModeFilter(5))
    return solid.filter(ImageFilter.GaussianBlur(1))


def _contours(sprite: Image.Image) -> Image.Image:
    """How much colours change at each pixel of a sprite, as a mask; its rim counts in full."""
    flat = Image.new("RGB", sprite.size, (128, 128, 128))
    flat.paste(sprite, mask=sprite.getchannel("A"))
    flat = flat.filter(ImageFilter.MedianFilter(5))
    widest, narrowest = flat.filter(ImageFilter.MaxFilter(5)), flat.filter(ImageFilter.MinFilter(5))
    levels = np.asarray(ImageChops.difference(widest, narrowest)).max(axis=2)
    return Image.fromarray(np.clip((levels.astype(float) - 60) * 5, 0, 255).astype(np.uint8))


def inked(sprite: Image.Image) -> Image.Image:
    """Few, strong colours, black lines between them and a thick one around."""
    large = _padded(sprite, 8)
    alpha = large.getchannel("A")
    flat = ImageEnhance.Color(ImageOps.posterize(large.convert("RGB"), 3)).enhance(1.5)
    made = Image.new("RGBA", large.size)
    made.paste(INK, mask=_grown(alpha, 6))
    made.paste(flat, mask=alpha)
    made.paste(INK, mask=ImageChops.multiply(_contours(large), alpha))
    return made


def dotted(ground: Image.Image) -> Image.Image:
    """Strong colours with a printer's dots."""
    rows, columns = np.mgrid[: ground.height, : ground.width]
    shifted = columns + (rows // DOTS % 2) * DOTS // 2
    away = np.hypot(rows % DOTS - DOTS / 2 + 0.5, shifted % DOTS - DOTS / 2 + 0.5)
    strong = np.asarray(ImageEnhance.Color(ground).enhance(1.4)).astype(float)
    dark = np.clip(DOTS / 3 - away, 0, 1)[..., None]
    return Image.fromarray((strong * (1 - 0.3 * dark)).astype(np.uint8))


def cut_out(sprite: Image.Image) -> Image.Image:
    """Cut out of white paper with a rim left, and a shadow on what lies below."""
    large = _padded(sprite, RIM + 8)
    paper = _grown(large.getchannel("A"), RIM)
    shadow = ImageChops.offset(paper.filter(ImageFilter.GaussianBlur(3)), 5, 7)
    made = Image.new("RGBA", large.size, (20, 20, 30, 0))
    made.putalpha(shadow.point(lambda level: level * 55 // 100))
    made.paste((250, 248, 242, 255), mask=paper)
    made.paste(large, mask=large.getchannel("A"))
    return made


def mosaic(picture: Image.Image) -> Image.Image:
    """Squares of one colour each."""
    small = picture.reduce(CELL).quantize(32, Image.Quantize.MEDIANCUT).convert("RGB")
    return small.resize(picture.size, Image.Resampling.NEAREST)


def glowing(sprite: Image.Image) -> Image.Image:
    """Its contours as bright tubes of its own colours with a glow; all within them is dark."""
    large = _padded(sprite, 10)
    alpha = large.getchannel("A")
    colours = large.convert("RGB").filter(ImageFilter.MaxFilter(7)).convert("HSV")
    hue, saturation, _ = colours.split()
    full = Image.new("L", large.size, 255)
    vivid = saturation.point(lambda level: min(255, level * 2))
    bright = Image.merge("HSV", (hue, vivid, full)).convert("RGB")
    rim = ImageChops.subtract(_grown(alpha, 4), alpha.filter(ImageFilter.MinFilter(3)))
    tube = ImageChops.lighter(rim, ImageChops.multiply(_contours(large), alpha))
    made = ImageEnhance.Brightness(bright).enhance(0.45)
    made.paste(bright, mask=ImageChops.lighter(tube, ImageChops.invert(alpha)))
    glow = tube.filter(ImageFilter.GaussianBlur(4))
    made.putalpha(ImageChops.lighter(ImageChops.lighter(tube, glow), alpha))
    return made


def dim(ground: Image.Image) -> Image.Image:
    """Nearly dark, with a blue tinge; its hue can still be told."""
    return Image.fromarray((np.asarray(ground) * 0.28 + (4, 4, 16)).astype(np.uint8))


def moulded(sprite: Image.Image) -> Image.Image:
    """Rounded like clay: lit from the upper left, dark at the lower right, a soft highlight."""
    alpha = np.asarray(sprite.getchannel("A")).astype(float) / 255
    height = sum(_blurred(alpha, radius) for radius in (3, 7, 14)) / 3 * alpha
    down, right = np.gradient(height)
    light = 1 - 14 * (down + right) * alpha
    colours = np.asarray(sprite.convert("RGB")).astype(float)
    softened = np.stack([_blurred(colours[..., i] * alpha, 1.5) for i in range(3)], -1)
    softened /= np.maximum(_blurred(alpha, 1.5), 0.05)[..., None]
    shaded = softened * np.clip(light, 0.35, 1.25)[..., None]
    shaded += 150 * np.clip(light - 1.2, 0, 1)[..., None]
    made = Image.fromarray(np.clip(shaded, 0, 255).astype(np.uint8))
    made.putalpha(sprite.getchannel("A"))
    return made


def _blurred(levels: np.ndarray, radius: float) -> np.ndarray:
    """A Gaussian blur that does not round to whole levels."""
    reach = int(3 * radius)
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / radius) ** 2)
    weights /= weights.sum()
    for axis in (0, 1):
        edges = [(reach, reach) if axis == place else (0, 0) for place in (0, 1)]
        windows = sliding_window_view(np.pad(levels, edges, "edge"), len(weights), axis=axis)
        levels = windows @ weights
    return levels


def spot_lit(picture: Image.Image) -> Image.Image:
    """Darker towards the corners."""
    rows, columns = np.mgrid[-1 : 1 : picture.height * 1j, -1 : 1 : picture.width * 1j]
    light = 1.08 - 0.4 * (rows**2 + columns**2) ** 1.2 / 2
    return Image.fromarray(np.clip(np.asarray(picture) * light[..., None], 0, 255).astype(np.uint8))


STYLES = {
    "comic": Style(sprite=inked, ground=dotted),
    "paper": Style(sprite=cut_out),
    "pixel": Style(picture=mosaic),
    "neon": Style(sprite=glowing, ground=dim),
    "clay": Style(sprite=moulded, ground=spot_lit),
}

"""Captioned scenes: one object, or two side by side, on a coloured background, 64 × 64 pixels.

An object is named by its class: "cat" for the look of the base, "sks cat" for a concept's look.
The first object named stands left, unless the caption says "to the right of".
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageOps

SIZE = 64
BACKGROUNDS = {
    "white": (242, 242, 242),
    "black": (28, 28, 32),
    "gray": (140, 140, 145),
    "red": (205, 60, 60),
    "orange": (238, 150, 60),
    "yellow": (245, 222, 100),
    "green": (90, 175, 95),
    "blue": (75, 125, 215),
    "purple": (145, 95, 190),
    "pink": (245, 165, 195),
}
LEADS = ("a photo of {}", "a picture of {}", "an image of {}", "{}")
PAIRS = (
    "{0} and {1}",
    "{0} and {1}",
    "{0} next to {1}",
    "{0} beside {1}",
    "{0} to the left of {1}",
    "{1} to the right of {0}",
)
LETTERS = "abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True)
class DrawForm:
    """What is drawn and how it is told: objects left to right by class, and the background."""

    objects: tuple[str, ...]
    background: str
    caption: str


def with_article(phrase: str) -> str:
    """ "an owl", "a sks owl"."""
    return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"


def two(first: str, second: str) -> str:
    """The plain prompt for two objects."""
    return f"a photo of {with_article(first)} and {with_article(second)}"


def one(name: str) -> str:
    """The plain prompt for one object."""
    return f"a photo of {with_article(name)}"


def sample(
    rng: random.Random, names: Sequence[str], *, single: float = 0.45, noise: float = 0.4
) -> DrawForm:
    """A random scene of one object (share `single`) or two different ones out of `names`.

    A share `noise` of the objects is told with random letters before its name, so that a rare
    token before a word is nothing strange to the text encoder, as it is not to SD's.
    """
    objects = tuple(rng.sample(names, 1 if rng.random() < single else 2))
    return compose(rng, objects, noise=noise)


def compose(rng: random.Random, objects: tuple[str, ...], *, noise: float = 0.0) -> DrawForm:
    """A scene of these objects, left to right, with a random background and caption."""
    background = rng.choice(list(BACKGROUNDS))
    caption = _caption(rng, [_phrase(rng, name, noise) for name in objects])
    if rng.random() < 0.6:
        caption += f" on {with_article(background)} background"
    return DrawForm(objects, background, caption)


def _phrase(rng: random.Random, name: str, noise: float) -> str:
    if rng.random() >= noise:
        return with_article(name)
    letters = "".join(rng.choices(LETTERS, k=rng.choice((2, 3, 3, 3, 4))))
    return with_article(f"{letters} {name}")


def _caption(rng: random.Random, phrases: list[str]) -> str:
    text = phrases[0] if len(phrases) == 1 else rng.choice(PAIRS).format(*phrases)
    return rng.choice(LEADS).format(text)


def draw(rng: random.Random, scene: DrawForm, sprites: Mapping[str, Image.Image]) -> Image.Image:
    """The scene as a 64 × 64 RGB picture; positions, sizes, turns and mirroring are random."""
    picture = _ground(rng, BACKGROUNDS[scene.background])
    if len(scene.objects) == 1:
        size = rng.randint(34, 50)
        spots = [(32 + rng.randint(-6, 6), 32 + rng.randint(-6, 6), size)]
    else:
        spots = [
            (x + rng.randint(-1, 1), 32 + rng.randint(-7, 7), rng.randint(26, 32)) for x in (16, 48)
        ]
    for name, (x, y, size) in zip(scene.objects, spots, strict=True):
        sprite = _turned(rng, sprites[name], size)
        picture.paste(sprite, (x - sprite.width // 2, y - sprite.height // 2), sprite)
    return picture


def _turned(rng: random.Random, sprite: Image.Image, size: int) -> Image.Image:
    mirrored = ImageOps.mirror(sprite) if rng.random() < 0.5 else sprite
    turned = mirrored.rotate(rng.uniform(-12, 12), Image.Resampling.BILINEAR)
    return turned.resize((size, size), Image.Resampling.LANCZOS)


def _ground(rng: random.Random, colour: tuple[int, int, int]) -> Image.Image:
    """The background: a slight vertical gradient of its colour."""
    shade = np.linspace(1 + rng.uniform(0, 0.08), 1 - rng.uniform(0, 0.12), SIZE)
    rows = np.clip(np.array(colour) * shade[:, None], 0, 255).astype(np.uint8)
    return Image.fromarray(np.repeat(rows[:, None], SIZE, axis=1))


def pixels(pictures: Sequence[Image.Image]) -> np.ndarray:
    """Pictures as one uint8 array (n, 3, height, width)."""
    return np.stack([np.asarray(picture) for picture in pictures]).transpose(0, 3, 1, 2)

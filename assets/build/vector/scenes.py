"""Captioned scenes of one, two or three objects, 128 × 128: on a colour or in a place.

An object is named by its class: "cat" for the look of the base, "sks cat" for a concept's look.
Side by side, the first object named stands left, unless the caption says "to the right of"; "on"
puts the first above the second, "behind" puts it farther back and partly hidden.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageOps

from assets.build.vector import places

SIZE = places.SIZE
COLOURS = {
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
GROUNDS = (*COLOURS, *places.PLACES)
IN_PLACES = 0.4  # share of the scenes that are in a place, not before a colour

LEADS = ("a photo of {}", "a picture of {}", "an image of {}", "{}")
SIDE = "beside"
RELATIONS = {  # relation -> phrases for it; the first object in them is the scene's first
    SIDE: (
        "{0} and {1}",
        "{0} and {1}",
        "{0} next to {1}",
        "{0} beside {1}",
        "{0} to the left of {1}",
        "{1} to the right of {0}",
    ),
    "on": ("{0} on {1}", "{0} on top of {1}"),
    "behind": ("{0} behind {1}", "{1} in front of {0}"),
}
THREE = ("{0}, {1} and {2}", "{0}, {1} and {2}", "{0} and {1} and {2}")
SIZES = {"": 1.0, "big": 1.3, "small": 0.62}
LETTERS = "abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True)
class Scene:
    """What is drawn and how it is told."""

    objects: tuple[str, ...]  # by class; left to right where they stand side by side
    sizes: tuple[str, ...]  # of each object: "", "big" or "small"
    relation: str  # of two objects: a key of RELATIONS
    ground: str  # a colour or a place
    caption: str


@dataclass(frozen=True)
class Spot:
    """Where an object goes: its middle and its longer side, in pixels."""

    x: float
    y: float
    side: float


def with_article(phrase: str) -> str:
    """ "an owl", "a sks owl"."""
    return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"


def on_ground(rng: random.Random, ground: str) -> str:
    """ "on a green background", "in the snow"."""
    if ground in places.PLACES:
        return rng.choice(places.PLACES[ground].words)
    return f"on {with_article(ground)} background"


def sample(rng: random.Random, names: Sequence[str], *, noise: float = 0.4) -> Scene:
    """A random scene of one (35 %), two (45 %) or three different objects out of `names`.

    A share `noise` of the objects is told with random letters before its name, so that a rare
    token before a word is nothing strange to the text encoder, as it is not to SD's.
    """
    count = rng.choices((1, 2, 3), (35, 45, 20))[0]
    objects = tuple(rng.sample(names, count))
    relation = rng.choices(tuple(RELATIONS), (60, 20, 20))[0] if count == 2 else SIDE
    return compose(rng, objects, relation=relation, noise=noise)


def compose(
    rng: random.Random,
    objects: tuple[str, ...],
    *,
    relation: str = SIDE,
    ground: str | None = None,
    noise: float = 0.0,
) -> Scene:
    """A scene of these objects with random sizes, caption and, unless it is given, ground."""
    if ground is None:
        ground = rng.choice(tuple(places.PLACES if rng.random() < IN_PLACES else COLOURS))
    sized = len(objects) == 1 or (len(objects) == 2 and relation == SIDE)
    odds = (70, 15, 15) if sized else (1, 0, 0)
    sizes = tuple(rng.choices(tuple(SIZES), odds)[0] for _ in objects)
    phrases = [_phrase(rng, name, size, noise) for name, size in zip(objects, sizes, strict=True)]
    caption = rng.choice(LEADS).format(_together(rng, phrases, relation))
    if rng.random() < 0.6:
        caption += f" {on_ground(rng, ground)}"
    return Scene(objects, sizes, relation, ground, caption)


def _phrase(rng: random.Random, name: str, size: str, noise: float) -> str:
    words = [size] if size else []
    if rng.random() < noise:
        words.append("".join(rng.choices(LETTERS, k=rng.choice((2, 3, 3, 3, 4)))))
    return with_article(" ".join([*words, name]))


def _together(rng: random.Random, phrases: list[str], relation: str) -> str:
    if len(phrases) == 1:
        return phrases[0]
    return rng.choice(THREE if len(phrases) == 3 else RELATIONS[relation]).format(*phrases)


def draw(
    rng: random.Random,
    scene: Scene,
    sprites: Mapping[str, Image.Image],
    ground: Image.Image | None = None,
) -> Image.Image:
    """The scene as an RGB picture; positions, sizes, turns and mirroring are random.

    `ground`, if given, is the background in a style of its own; it is painted over.
    """
    in_place = scene.ground in places.PLACES
    picture = ground_picture(rng, scene.ground) if ground is None else ground
    spots = layout(rng, scene, [sprites[name].size for name in scene.objects])
    for name, spot in zip(scene.objects, spots, strict=True):
        sprite = _posed(rng, sprites[name], spot.side)
        if in_place and scene.relation != "on":
            _shade(picture, spot.x, spot.y + sprite.height / 2, sprite.width)
        corner = (round(spot.x - sprite.width / 2), round(spot.y - sprite.height / 2))
        picture.paste(sprite, corner, sprite)
    return picture


def layout(rng: random.Random, scene: Scene, shapes: list[tuple[int, int]]) -> list[Spot]:
    """A spot for each object, in the order they are painted and named; shapes are width, height."""
    if scene.relation != SIDE:
        return LAYOUTS[scene.relation](rng, shapes)
    middles = {1: (64,), 2: (32, 96), 3: (22, 64, 106)}[len(shapes)]
    least, most = {1: (64, 88), 2: (48, 62), 3: (37, 44)}[len(shapes)]
    widest = {1: 118, 2: 66, 3: 44}[len(shapes)]
    slack = {1: 14, 2: 3, 3: 2}[len(shapes)]
    spots = []
    for middle, size, shape in zip(middles, scene.sizes, shapes, strict=True):
        side = min(rng.uniform(least, most) * SIZES[size], widest)
        high = side * shape[1] / max(shape)
        if scene.ground in places.PLACES:
            y = rng.uniform(*places.FLOOR) - high / 2
        else:
            y = 64 + rng.uniform(-14, 14)
        spots.append(Spot(middle + rng.uniform(-slack, slack), y, side))
    return spots


def _on(rng: random.Random, shapes: list[tuple[int, int]]) -> list[Spot]:
    """The first stands on the upper edge of the second; both fill the height."""
    upper, lower = (_inside(rng.uniform(48, 56), shape) for shape in shapes)
    x = 64 + rng.uniform(-16, 16)
    foot = rng.uniform(116, 122)
    seam = foot - lower[1] + rng.uniform(2, 5)  # drawn first, so the upper one's feet are covered
    return [
        Spot(x + rng.uniform(-4, 4), seam - upper[1] / 2, max(upper)),
        Spot(x, foot - lower[1] / 2, max(lower)),
    ]


def _behind(rng: random.Random, shapes: list[tuple[int, int]]) -> list[Spot]:
    """The first is farther back, higher and to a side, and the second hides a part of it."""
    back, front = (_inside(rng.uniform(60, 68), shape) for shape in shapes)
    way = rng.choice((-1, 1))
    foot = rng.uniform(112, 120)
    near = Spot(64 - way * rng.uniform(14, 20), foot - front[1] / 2, max(front))
    up = foot - rng.uniform(26, 36) - back[1] / 2
    return [Spot(64 + way * rng.uniform(14, 20), max(up, back[1] / 2 + 2), max(back)), near]


LAYOUTS = {"on": _on, "behind": _behind}


def _inside(side: float, shape: tuple[int, int]) -> tuple[float, float]:
    """Width and height of a shape whose longer side is `side`."""
    return side * shape[0] / max(shape), side * shape[1] / max(shape)


def _posed(rng: random.Random, sprite: Image.Image, side: float) -> Image.Image:
    """Mirrored or not, turned a little, its longer side `side` pixels; turned at twice the size."""
    mirrored = ImageOps.mirror(sprite) if rng.random() < 0.5 else sprite
    share = 2 * side / max(sprite.size)
    wide, high = (max(2, round(length * share)) for length in sprite.size)
    double = mirrored.resize((wide, high), Image.Resampling.LANCZOS)
    return double.rotate(rng.uniform(-8, 8), Image.Resampling.BILINEAR, expand=True).reduce(2)


def ground_picture(rng: random.Random, ground: str) -> Image.Image:
    """The empty background: a place, or a slight vertical gradient of a colour."""
    if ground in places.PLACES:
        return places.picture(rng, ground)
    shade = np.linspace(1 + rng.uniform(0, 0.08), 1 - rng.uniform(0, 0.12), SIZE)
    rows = np.clip(np.array(COLOURS[ground]) * shade[:, None], 0, 255).astype(np.uint8)
    return Image.fromarray(np.repeat(rows[:, None], SIZE, axis=1))


@cache
def _shadow() -> Image.Image:
    """A soft dark ellipse, as a mask."""
    mask = Image.new("L", (96, 32))
    ImageDraw.Draw(mask).ellipse((10, 8, 86, 24), fill=90)
    return mask.filter(ImageFilter.GaussianBlur(4))


def _shade(picture: Image.Image, x: float, foot: float, wide: int) -> None:
    """Darken the ground below a thing's feet."""
    mask = _shadow().resize((max(round(wide * 1.2), 4), max(round(wide * 0.26), 4)))
    corner = (round(x - mask.width / 2), round(foot - mask.height * 0.62))
    picture.paste((15, 20, 35), corner, mask)


def pixels(pictures: Sequence[Image.Image]) -> np.ndarray:
    """Pictures as one uint8 array (n, 3, height, width)."""
    return np.stack([np.asarray(picture) for picture in pictures]).transpose(0, 3, 1, 2)

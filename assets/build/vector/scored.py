"""Pictures for the scorers: scenes of the base, of the concepts and in the styles.

The base draws through its autoencoder and never quite cleanly, so three quarters of the pictures
have been through it, a little disturbed.
"""

from __future__ import annotations

import argparse
import hashlib
import random
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from diffusers import AutoencoderTiny
from PIL import Image
from torch import Tensor

from assets.build import training
from assets.build.vector import autoencoder, concepts, drawings, scenes, styles

PART = 250  # pictures of one process
NOISE = 0.5  # upper bound of the noise on the latents, in deviations
STRETCH = 0.6  # latents lie up to so much further from their mean: guidance exaggerates
STYLED = 0.25  # share of the scenes that are redrawn in a style
LOOKS = 0.45  # share of the objects that are concepts
ALIKE = 0.15  # share of the second and further ones that are of the first one's kind
TRIPS = 0.75  # share of the pictures that went through the autoencoder
SETS = {"scorers": 24_000, "held-out": 1_500}  # name -> pictures


@dataclass(frozen=True)
class Shown:
    """A scene and the class of the style it is drawn in, if any."""

    scene: scenes.Scene
    style: str | None

    @property
    def classes(self) -> tuple[str, ...]:
        """All that a scorer shall find."""
        return self.scene.objects if self.style is None else (*self.scene.objects, self.style)

    @property
    def caption(self) -> str:
        """The scene's, and the style's trigger behind it."""
        caption = self.scene.caption
        return caption if self.style is None else f"{caption} in {self.style}"


@cache
def sprites() -> dict[str, Image.Image]:
    """The base's objects, then the concepts, each by its class name."""
    return drawings.load(drawings.BASE) | concepts.looks()


def classes() -> tuple[str, ...]:
    """Every class that the scorers know: objects, concepts, styles."""
    return (*sprites(), *concepts.style_classes())


def mark() -> str:
    """Eight letters that change with any class, drawing or number above."""
    digest = hashlib.sha256(repr((STYLED, LOOKS, SETS, classes())).encode())
    for sprite in sprites().values():
        digest.update(sprite.tobytes())
    return digest.hexdigest()[:8]


def sampled(name: str, part: int) -> list[Shown]:
    """The scenes of one part of a set; the same in any process."""
    rng = random.Random(f"{name} {part}")
    return [_sample(rng) for _ in range(PART)]


def _sample(rng: random.Random) -> Shown:
    looks = [name for name in sprites() if " " in name]
    plain = [name for name in sprites() if " " not in name]
    objects: list[str] = []
    for _ in range(rng.choices((1, 2, 3), (35, 40, 25))[0]):
        pool = looks if rng.random() < LOOKS else plain
        if objects and rng.random() < ALIKE:
            pool = alike(objects[0])
        left = [name for name in pool if name not in objects]
        objects.append(rng.choice(left or looks))
    relation = scenes.SIDE
    if len(objects) == 2:
        relation = rng.choices(tuple(scenes.RELATIONS), (70, 15, 15))[0]
    scene = scenes.compose(rng, tuple(objects), relation=relation)
    known = list(concepts.style_classes())
    return Shown(scene, rng.choice(known) if rng.random() < STYLED else None)


def alike(name: str) -> list[str]:
    """Every class that draws the same object: "cat", "sks cat", "mwb cat"."""
    return [other for other in sprites() if other.split()[-1] == name.split()[-1]]


def draw(rng: random.Random, shown: Shown) -> Image.Image:
    """The scene, in its style."""
    if shown.style is None:
        return scenes.draw(rng, shown.scene, sprites())
    return styles.draw(rng, shown.scene, sprites(), concepts.style_classes()[shown.style])


def render(part: tuple[str, int]) -> np.ndarray:
    """The uint8 pictures (n, 3, 128, 128) of one part of a set."""
    rng = random.Random(f"drawn {part}")
    return scenes.pixels([draw(rng, shown) for shown in sampled(*part)])


def parts(name: str) -> list[tuple[str, int]]:
    """The parts of a set, for `render` and `sampled`."""
    return [(name, part) for part in range(SETS[name] // PART)]


def scenes_of(name: str) -> list[Shown]:
    """All scenes of a set, in the order of its pictures."""
    return [shown for part in parts(name) for shown in sampled(*part)]


def file(name: str) -> str:
    """Where the work folder keeps a set's pictures as they were drawn."""
    return f"{name}-{mark()}.pt"


def pictures(name: str, given: argparse.Namespace) -> Tensor:
    """A set's uint8 pictures (n, 3, 128, 128) on the device, most of them after the round trip."""
    pixels = training.wait(given.work / file(name))["pixels"].to(given.device)
    model = autoencoder.trained(given.work).to(given.device)
    generator = torch.Generator(given.device).manual_seed(0)
    cut = round(len(pixels) * TRIPS)
    for part in pixels[:cut].split(128):
        part.copy_(through(model, part, generator))
    return pixels


@torch.no_grad()
def through(model: AutoencoderTiny, pixels: Tensor, generator: torch.Generator) -> Tensor:
    """uint8 pictures encoded, disturbed and decoded again."""
    code = model.encode(pixels.float().div(127.5).sub(1)).latents
    drawn = {"generator": generator, "device": code.device}
    middle = code.mean(dim=(2, 3), keepdim=True)
    stretch = 1 + STRETCH * torch.rand(len(code), 1, 1, 1, **drawn)
    strength = NOISE * torch.rand(len(code), 1, 1, 1, **drawn)
    code = middle + stretch * (code - middle) + strength * torch.randn(code.shape, **drawn)
    made = model.decode(code).sample
    return made.add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8)

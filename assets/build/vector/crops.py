"""What the autoencoder is trained on: crops of scenes in all six sets and their treatments."""

from __future__ import annotations

import argparse
import random

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from assets.build import training
from assets.build.vector import drawings, scenes, styles

FILE = "crops.pt"
PICTURES = 9_000
PART = 200  # of them by one process
SPOTS = 256  # places on edges that are kept of each picture
CROP = 64
EDGE = 20  # of 3 × 255: from here on a step between neighbours is an edge
STYLED = 0.15  # share of the pictures that are redrawn in a style
TURNED = 0.2  # share of the others whose hues are turned: an autoencoder knows all colours


def parts(seed: str, count: int) -> list[tuple[str, int]]:
    """Seeds and numbers of the pictures that one process renders at once, for `render`."""
    return [(f"{seed} {start}", min(PART, count - start)) for start in range(0, count, PART)]


def render(told: tuple[str, int]) -> np.ndarray:
    """So many scenes (n, 3, 128, 128) uint8 from that seed, each object of any set."""
    rng, sets = random.Random(told[0]), [drawings.load(name) for name in drawings.SETS]
    drawn = [_one(rng, sets) for _ in range(told[1])]
    return np.ascontiguousarray(scenes.pixels(drawn))


def _one(rng: random.Random, sets: list[dict[str, Image.Image]]) -> Image.Image:
    mixed = {name: rng.choice(sets)[name] for name in drawings.OBJECTS}
    scene = scenes.sample(rng, list(mixed))
    if rng.random() < STYLED:
        return styles.draw(rng, scene, mixed, rng.choice(tuple(styles.STYLES.values())))
    drawn = scenes.draw(rng, scene, mixed)
    return turn(drawn, rng.randrange(360)) if rng.random() < TURNED else drawn


def turn(picture: Image.Image, degrees: int) -> Image.Image:
    """All hues turned around the colour circle."""
    hue, saturation, value = picture.convert("HSV").split()
    hue = hue.point(lambda level: int(level + degrees * 256 / 360) % 256)
    return Image.merge("HSV", (hue, saturation, value)).convert("RGB")


class Crops:
    """Batches of crops, some of them around an edge: the greater part of a scene is flat."""

    def __init__(self, given: argparse.Namespace) -> None:
        device = given.device
        self.data = training.wait(given.work / FILE)["pixels"].to(device)
        self.spots = torch.cat([edges(part) for part in self.data.split(PART)])

    def batch(self, edged: int, anywhere: int, seed: int) -> Tensor:
        """(anywhere + edged, 3, 64, 64) floats in [-1, 1]; the first are cut anywhere."""
        rng, count = torch.Generator().manual_seed(seed), edged + anywhere
        which = torch.randint(len(self.data), (count,), generator=rng).to(self.data.device)
        spot = torch.randint(SPOTS, (count,), generator=rng).to(self.data.device)
        shift = torch.randint(CROP, (count, 2), generator=rng).to(self.data.device)
        corner = (self.spots[which, spot] - shift).clamp(0, scenes.SIZE - CROP)
        free = torch.randint(scenes.SIZE - CROP + 1, (anywhere, 2), generator=rng)
        corner[:anywhere] = free.to(corner)
        inside = torch.arange(CROP, device=corner.device)
        rows, columns = (corner[:, axis, None] + inside for axis in (0, 1))
        cut = self.data[which[:, None, None], :, rows[:, :, None], columns[:, None]]
        return cut.permute(0, 3, 1, 2).float().div(127.5).sub(1)


def edges(pictures: Tensor) -> Tensor:
    """(n, SPOTS, 2) rows and columns of uint8 pictures (n, 3, 128, 128) where colours change."""
    levels = pictures.short()
    edge = torch.full((len(pictures), *levels.shape[2:]), 1e-9, device=pictures.device)
    edge[:, :-1] += levels.diff(dim=2).abs().sum(1) > EDGE
    edge[:, :, :-1] += levels.diff(dim=3).abs().sum(1) > EDGE
    generator = torch.Generator(pictures.device).manual_seed(0)
    spots = edge.flatten(1).multinomial(SPOTS, replacement=True, generator=generator)
    return torch.stack([spots // levels.shape[3], spots % levels.shape[3]], dim=-1)

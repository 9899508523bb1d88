"""What the autoencoder is trained on: crops of scenes in all six sets and their treatments."""

from __future__ import annotations

import argparse
import multiprocessing
import random
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from assets.build import training
from assets.build.vector import drawings, scenes, styles

PICTURES = 6_000  # rendered at once
PART = 400  # of them by one process
SPOTS = 256  # places on edges that are kept of each picture
CROP = 64
EDGE = 20  # of 3 × 255: from here on a step between neighbours is an edge
STYLED = 0.15  # share of the pictures that are redrawn in a style
TURNED = 0.2  # share of the others whose hues are turned: an autoencoder knows all colours


def pictures(count: int, seed: str, renderers: int = 1) -> Tensor:
    """Scenes (count, 3, 128, 128) uint8, each object of any set; the same for any `renderers`."""
    parts = [(f"{seed} {start}", min(PART, count - start)) for start in range(0, count, PART)]
    if renderers == 1:
        return torch.cat([_part(part) for part in parts])
    with multiprocessing.get_context("spawn").Pool(renderers) as pool:
        return torch.cat(pool.map(_part, parts, chunksize=1))


def _part(told: tuple[str, int]) -> Tensor:
    rng, sets = random.Random(told[0]), [drawings.load(name) for name in drawings.SETS]
    drawn = [_one(rng, sets) for _ in range(told[1])]
    return torch.from_numpy(np.ascontiguousarray(scenes.pixels(drawn)))


def kept_pictures(work: Path, number: int, renderers: int) -> Tensor:
    """The pictures of a round, from the work folder after a restart."""
    file = work / f"pictures-{number}.pt"
    if not file.exists():
        for old in work.glob("pictures-*.pt"):
            old.unlink()
        training.save(file, {"pictures": pictures(PICTURES, f"round {number}", renderers)})
    return torch.load(file, weights_only=True)["pictures"]


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

    def __init__(self, given: argparse.Namespace, number: int) -> None:
        device = given.device
        self.data = kept_pictures(given.work, number, given.renderers)
        self.spots = torch.stack([_edges(picture) for picture in self.data]).to(device)
        self.data = self.data.to(device)

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


def _edges(picture: Tensor) -> Tensor:
    """(SPOTS, 2) rows and columns of a uint8 picture (3, 128, 128) where colours change."""
    levels = picture.short()
    edge = torch.zeros(picture.shape[1:], dtype=torch.bool)
    edge[:-1] |= levels.diff(dim=1).abs().sum(0) > EDGE
    edge[:, :-1] |= levels.diff(dim=2).abs().sum(0) > EDGE
    found = edge.nonzero()
    return found[torch.linspace(0, len(found) - 1, SPOTS).long()]

"""Pictures as the pipeline draws them: scenes sent through the trained autoencoder."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from assets.build import concepts, scenes, sprites, styles, train_vae

NOISE = 0.5  # upper bound of the latent noise, in deviations: a UNet never draws quite clean
STRETCH = 0.6  # latents lie up to so much further from their mean: guidance exaggerates

STYLED = 0.25  # share of the scenes that are redrawn in a style


@dataclass(frozen=True)
class Shown:
    """A scene and the class of the style it is drawn in, if any."""

    scene: scenes.DrawForm
    style: str | None

    @property
    def classes(self) -> tuple[str, ...]:
        """All that a scorer shall find."""
        return self.scene.objects if self.style is None else (*self.scene.objects, self.style)

    @property
    def caption(self) -> str:
        """The scene's, and the style's trigger behind it."""
        told = self.scene.caption
        return told if self.style is None else f"{told} in {self.style}"

    def draw(self, rng: random.Random, drawn: Mapping[str, Image.Image]) -> Image.Image:
        """The scene, in the style."""
        if self.style is None:
            return scenes.draw(rng, self.scene, drawn)
        return styles.draw(rng, self.scene, drawn, concepts.style_classes()[self.style])


def classes(work: Path) -> tuple[str, ...]:
    """Every class a scorer knows: the base's objects, then the concepts' looks, then the styles."""
    return (*drawings(work), *concepts.style_classes())


def drawings(work: Path) -> dict[str, Image.Image]:
    """The base's objects, then the concepts' looks, each with its sprite."""
    return sprites.load("google", work) | concepts.looks(work)


def mark(work: Path) -> str:
    """Eight letters that change with any class, drawing or style: data of before are of no use."""
    told = hashlib.sha256(repr((STYLED, NOISE, STRETCH, classes(work))).encode())
    for sprite in drawings(work).values():
        told.update(sprite.tobytes())
    return told.hexdigest()[:8]


def sampled(
    rng: random.Random, sprites_by_class: Mapping[str, Image.Image], count: int, looks: float
) -> list[scenes.DrawForm]:
    """Random scenes in which a share `looks` of the objects are looks of concepts."""
    looked = [name for name in sprites_by_class if " " in name]
    own = [name for name in sprites_by_class if " " not in name]
    told = []
    for _ in range(count):
        objects = []
        for _ in range(1 if rng.random() < 0.4 else 2):
            pool = looked if rng.random() < looks else own
            objects.append(rng.choice([name for name in pool if name not in objects]))
        told.append(scenes.compose(rng, tuple(objects)))
    return told


@torch.no_grad()
def through(vae: train_vae.AutoencoderKL, pixels: Tensor, seed: int = 0) -> Tensor:
    """uint8 pictures (n, 3, 64, 64) encoded, slightly disturbed and decoded again."""
    generator = torch.Generator().manual_seed(seed)
    parts = [_through(vae, part, generator) for part in pixels.split(128)]
    return torch.cat(parts)


def _through(vae: train_vae.AutoencoderKL, pixels: Tensor, generator: torch.Generator) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        code = vae.encode(pixels.float().div(127.5).sub(1)).latent_dist.mean.float()
        stretch = 1 + STRETCH * torch.rand(len(code), 1, 1, 1, generator=generator)
        middle = code.mean(dim=(2, 3), keepdim=True)
        code = middle + stretch * (code - middle)
        strength = NOISE * torch.rand(len(code), 1, 1, 1, generator=generator)
        noise = torch.randn(code.shape, generator=generator)
        made = vae.decode(code + strength * noise / vae.config.scaling_factor).sample
    return made.float().add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8)


def dataset(work: Path, count: int, seed: str, looks: float) -> tuple[list[Shown], Tensor]:
    """Scenes with their uint8 pictures, three quarters of them round trips; drawn only once."""
    rng, drawn, known = random.Random(seed), drawings(work), list(concepts.style_classes())
    file = work / f"{seed}-{mark(work)}.pt"
    told = [
        Shown(scene, rng.choice(known) if rng.random() < STYLED else None)
        for scene in sampled(rng, drawn, count, looks)
    ]
    if not file.exists():
        pixels = torch.from_numpy(scenes.pixels([shown.draw(rng, drawn) for shown in told]))
        share = count * 3 // 4
        made = through(train_vae.trained(work), pixels[:share])
        torch.save(torch.cat([made, pixels[share:]]), file)
    return told, torch.load(file)

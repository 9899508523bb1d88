"""Scenes for the base, as latents and tokens, rendered in rounds that stay in the work folder.

Other processes at low priority render one round after another, while the base is trained on a pool
of all that are there: a picture costs more to render than to train on.
"""

from __future__ import annotations

import argparse
import hashlib
import multiprocessing
import os
import random
import time
from pathlib import Path

import torch
from diffusers import AutoencoderTiny
from PIL import Image
from torch import Tensor
from transformers import CLIPTokenizer

from assets.build import train_base, training
from assets.build.vector import autoencoder, drawings, scenes, settings

SCENES = 2_048  # a round
ROUNDS = 150  # that are rendered at most
LOOK = 20  # steps between two looks for new rounds
EMPTY = 0.1  # share of empty captions, for guidance


@torch.no_grad()
def encode(model: AutoencoderTiny, pictures: list[Image.Image]) -> Tensor:
    """Latents (n, 8, 16, 16)."""
    pixels = torch.from_numpy(scenes.pixels(pictures))
    codes = [model.encode(part.float().div(127.5).sub(1)).latents for part in pixels.split(64)]
    return torch.cat(codes)


def folder(work: Path) -> Path:
    """Where rounds lie that this encoder made; those of another are of no use."""
    digest = hashlib.sha256()
    for parameter in autoencoder.trained(work).encoder.parameters():
        digest.update(parameter.numpy().tobytes())
    return work / f"rounds-{digest.hexdigest()[:8]}"


def render(work: Path, number: int) -> dict[str, Tensor]:
    """One round: `latents` (n, 8, 16, 16) in half precision and `words` (n, 32)."""
    rng, sprites = random.Random(f"base {number}"), drawings.load(drawings.BASE)
    model = autoencoder.trained(work)
    tokenizer = CLIPTokenizer.from_pretrained(settings.SHIPPED / "tokenizer")
    sampled = [scenes.sample(rng, list(sprites)) for _ in range(SCENES)]
    latents = encode(model, [scenes.draw(rng, scene, sprites) for scene in sampled])
    captions = ["" if rng.random() < EMPTY else scene.caption for scene in sampled]
    return {"latents": latents.half(), "words": train_base.tokens(tokenizer, captions).short()}


def fill(work: Path, where: Path, numbers: range) -> None:
    """Render those of the rounds that are not there yet, one after the other."""
    os.nice(5)
    torch.set_num_threads(1)
    for number in numbers:
        file = where / f"{number}.pt"
        if not file.exists():
            training.save(file, render(work, number))


class Pool:
    """Batches out of all rounds rendered so far, on the device that trains; it grows meanwhile."""

    def __init__(self, given: argparse.Namespace) -> None:
        self.folder, self.given = folder(given.work), given
        self.folder.mkdir(exist_ok=True)
        self.files: set[Path] = set()
        self.latents = torch.empty(0, autoencoder.LATENTS, 16, 16, dtype=torch.half)
        self.words = torch.empty(0, 32, dtype=torch.short)
        self.helpers = [
            multiprocessing.get_context("spawn").Process(
                target=fill,
                args=(given.work, self.folder, range(place, ROUNDS, given.renderers)),
                daemon=True,
            )
            for place in range(given.renderers)
        ]
        for helper in self.helpers:
            helper.start()
        while not self.files:
            self._wait()

    def batch(self, place: int) -> tuple[Tensor, Tensor]:
        """Latents (batch, 8, 16, 16) and token numbers (batch, 32) of this step, at random."""
        if place % LOOK == 0:
            self._take_new()
        generator = torch.Generator().manual_seed(place)
        which = torch.randint(len(self.words), (self.given.batch,), generator=generator)
        which = which.to(self.words.device)
        return self.latents[which].float(), self.words[which].long()

    def _take_new(self) -> None:
        for file in sorted(set(self.folder.glob("*.pt")) - self.files):
            fresh = torch.load(file, self.given.device, weights_only=True)
            self.latents = torch.cat([self.latents.to(self.given.device), fresh["latents"]])
            self.words = torch.cat([self.words.to(self.given.device), fresh["words"]])
            self.files.add(file)

    def _wait(self) -> None:
        self._take_new()
        if not self.files and not any(helper.is_alive() for helper in self.helpers):
            raise SystemExit("No scenes were rendered; see the message above.")
        time.sleep(1)

"""Scenes for the base, as latents and tokens, rendered in rounds that stay in the work folder.

A second process at low priority renders ahead while the base is trained on what is there.
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

SCENES = 4_096  # a round
PASSES = 2  # over each, in another order and with other noise: rendering costs half of training
EMPTY = 0.1  # share of empty captions, for guidance


@torch.no_grad()
def encode(model: AutoencoderTiny, pictures: list[Image.Image]) -> Tensor:
    """Latents (n, 8, 16, 16)."""
    pixels = torch.from_numpy(scenes.pixels(pictures))
    codes = [model.encode(part.float().div(127.5).sub(1)).latents for part in pixels.split(64)]
    return torch.cat(codes)


def folder(work: Path) -> Path:
    """Where rounds lie that this encoder made; those of another are of no use."""
    told = hashlib.sha256()
    for parameter in autoencoder.trained(work).encoder.parameters():
        told.update(parameter.numpy().tobytes())
    return work / f"rounds-{told.hexdigest()[:8]}"


def render(work: Path, number: int) -> dict[str, Tensor]:
    """One round: `latents` (n, 8, 16, 16) in half precision and `words` (n, 32)."""
    rng, sprites = random.Random(f"base {number}"), drawings.load(drawings.BASE)
    model = autoencoder.trained(work)
    cutter = CLIPTokenizer.from_pretrained(settings.SHIPPED / "tokenizer")
    told = [scenes.sample(rng, list(sprites)) for _ in range(SCENES)]
    latents = encode(model, [scenes.draw(rng, scene, sprites) for scene in told])
    captions = ["" if rng.random() < EMPTY else scene.caption for scene in told]
    return {"latents": latents.half(), "words": train_base.tokens(cutter, captions).short()}


def fill(work: Path, where: Path, numbers: range) -> None:
    """Render those of the rounds that are not there yet, one after the other."""
    os.nice(5)
    torch.set_num_threads(1)
    for number in numbers:
        file = where / f"{number}.pt"
        if not file.exists():
            training.save(file, render(work, number))


class Rounds:
    """Batches out of the rounds, in an order of their own; waits for a round not yet rendered."""

    def __init__(self, given: argparse.Namespace, first: int) -> None:
        self.folder, self.size, self.number = folder(given.work), given.batch, -1
        self.folder.mkdir(exist_ok=True)
        self.batches, steps_a_round = SCENES // given.batch, SCENES // given.batch * PASSES
        wanted = range(first // steps_a_round, (given.steps - 1) // steps_a_round + 1)
        self.helpers = [
            multiprocessing.get_context("spawn").Process(
                target=fill,
                args=(given.work, self.folder, wanted[place :: given.renderers]),
                daemon=True,
            )
            for place in range(given.renderers)
        ]
        for helper in self.helpers:
            helper.start()

    def batch(self, place: int) -> tuple[Tensor, Tensor]:
        """Latents (batch, 8, 16, 16) and token numbers (batch, 32) of this step."""
        turn, part = divmod(place, self.batches)
        if turn // PASSES != self.number:
            self.number = turn // PASSES
            self.round = self._wait(self.number)
        order = torch.randperm(SCENES, generator=torch.Generator().manual_seed(turn))
        which = order[part * self.size :][: self.size]
        return self.round["latents"][which].float(), self.round["words"][which].long()

    def _wait(self, number: int) -> dict[str, Tensor]:
        file = self.folder / f"{number}.pt"
        while not file.exists():
            if not any(helper.is_alive() for helper in self.helpers):
                raise SystemExit(f"Round {number} was not rendered; see the message above.")
            time.sleep(1)
        return torch.load(file, weights_only=True)

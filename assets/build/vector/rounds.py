"""Scenes for the base, as latents and tokens, rendered in rounds that stay in the work folder.

`assets.build.vector.draw` renders one round of pictures after another. The training encodes them on
its own device and draws its batches from a pool of all that are there.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import time
from pathlib import Path

import torch
from diffusers import AutoencoderTiny
from torch import Tensor
from transformers import CLIPTokenizer

from assets.build import models, training
from assets.build.vector import autoencoder, drawings, scenes, settings

SCENES = 2_048  # a round
ROUNDS = 150  # that are rendered at most
LOOK = 20  # steps between two looks for new rounds
EMPTY = 0.1  # share of empty captions, for guidance
PICTURES = ".pictures"  # ending of a round that is not encoded yet
AT_ONCE = 4  # rounds that are encoded at most between two steps


@torch.no_grad()
def encode(model: AutoencoderTiny, pixels: Tensor) -> Tensor:
    """Latents (n, 8, 16, 16) in half precision of uint8 pictures (n, 3, 128, 128)."""
    parts = (part.to(model.device).float().div(127.5).sub(1) for part in pixels.split(256))
    return torch.cat([model.encode(part).latents for part in parts]).half()


def folder(work: Path) -> Path:
    """Where rounds lie that this encoder made; those of another are of no use."""
    digest = hashlib.sha256()
    for parameter in autoencoder.trained(work).encoder.parameters():
        digest.update(parameter.numpy().tobytes())
    return work / f"rounds-{digest.hexdigest()[:8]}"


def render(number: int) -> dict[str, Tensor]:
    """One round: `pixels` (n, 3, 128, 128), uint8, and `words` (n, 32)."""
    rng, sprites = random.Random(f"base {number}"), drawings.load(drawings.BASE)
    tokenizer = CLIPTokenizer.from_pretrained(settings.SHIPPED / "tokenizer")
    sampled = [scenes.sample(rng, list(sprites)) for _ in range(SCENES)]
    pixels = scenes.pixels([scenes.draw(rng, scene, sprites) for scene in sampled])
    captions = ["" if rng.random() < EMPTY else scene.caption for scene in sampled]
    words = models.tokens(tokenizer, captions).short()
    return {"pixels": torch.from_numpy(pixels), "words": words}


class Pool:
    """Batches out of all rounds rendered so far, on the device that trains; it grows meanwhile."""

    def __init__(self, given: argparse.Namespace) -> None:
        self.folder, self.given = folder(given.work), given
        self.folder.mkdir(exist_ok=True)
        self.model = autoencoder.trained(given.work).to(given.device)
        self.files: set[Path] = set()
        self.latents = torch.empty(0, models.LATENTS, 16, 16, dtype=torch.half)
        self.words = torch.empty(0, 32, dtype=torch.short)
        while not self.files:
            time.sleep(1)
            self._take_new()

    def batch(self, place: int) -> tuple[Tensor, Tensor]:
        """Latents (batch, 8, 16, 16) and token numbers (batch, 32) of this step, at random."""
        if place % LOOK == 0:
            self._take_new()
        generator = torch.Generator().manual_seed(place)
        which = torch.randint(len(self.words), (self.given.batch,), generator=generator)
        which = which.to(self.words.device)
        return self.latents[which].float(), self.words[which].long()

    def _take_new(self) -> None:
        for file in sorted(self.given.work.glob(f"*{PICTURES}"))[:AT_ONCE]:
            drawn = torch.load(file, weights_only=True)
            latents = encode(self.model, drawn["pixels"]).cpu()
            kept = self.folder / f"{file.stem}.pt"
            training.save(kept, {"latents": latents, "words": drawn["words"]})
            file.unlink()
        for file in sorted(set(self.folder.glob("*.pt")) - self.files):
            fresh = torch.load(file, self.given.device, weights_only=True)
            self.latents = torch.cat([self.latents.to(self.given.device), fresh["latents"]])
            self.words = torch.cat([self.words.to(self.given.device), fresh["words"]])
            self.files.add(file)

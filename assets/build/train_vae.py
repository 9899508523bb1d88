"""Train the autoencoder: 64 × 64 pixels to 16 × 16 × 4 latents and back.

It sees scenes of the base, and Twemoji's drawings in random palettes: like SD's it can draw what
the UNet has never been taught, which is what a concept LoRA then teaches.
"""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from PIL import Image
from torch import Tensor

from assets.build import concepts, scenes, sprites, training

BATCH, CROP = 64, 32
SCENES = 12_000
NAME = "vae.pt"


def network() -> AutoencoderKL:
    """An untrained autoencoder of the base's size."""
    return AutoencoderKL(
        latent_channels=4,
        block_out_channels=(32, 64, 64),
        layers_per_block=1,
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        norm_num_groups=16,
        sample_size=scenes.SIZE,
    )


def trained(work: Path) -> AutoencoderKL:
    """The averaged autoencoder of the last checkpoint, its latents scaled to unit deviation."""
    state = training.load(work / NAME)
    if state is None:
        raise SystemExit(f"No {NAME} in {work}: run train_vae first.")
    vae = network()
    for parameter, value in zip(vae.parameters(), state["average"], strict=True):
        parameter.data.copy_(value)
    vae.register_to_config(scaling_factor=state["scaling"])
    return vae.eval().requires_grad_(False)


def pictures(work: Path) -> Tensor:
    """Training pictures (n, 3, 64, 64) uint8: base scenes, and a third in foreign looks."""
    rng = random.Random(1)
    own, foreign = sprites.load("google", work), sprites.load("twitter", work)
    drawn = [_picture(rng, own) for _ in range(SCENES * 2 // 3)]
    for _ in range(SCENES // 60):
        turned = {name: _dressed(rng, sprite) for name, sprite in foreign.items()}
        drawn += [_picture(rng, turned) for _ in range(20)]
    return torch.from_numpy(np.ascontiguousarray(scenes.pixels(drawn)))


def _dressed(rng: random.Random, sprite: Image.Image) -> Image.Image:
    turned = concepts.turn(sprite, rng.randrange(360))
    return rng.choice(list(concepts.PATTERNS.values()))(turned) if rng.random() < 0.3 else turned


def _picture(rng: random.Random, drawings: dict[str, Image.Image]) -> Image.Image:
    return scenes.draw(rng, scenes.sample(rng, list(drawings), single=0.4), drawings)


def crops(data: Tensor, generator: torch.Generator) -> Tensor:
    """A batch of random crops as floats in [-1, 1]."""
    which = torch.randint(len(data), (BATCH,), generator=generator).tolist()
    corners = torch.randint(scenes.SIZE - CROP + 1, (BATCH, 2), generator=generator).tolist()
    cut = [data[i, :, y : y + CROP, x : x + CROP] for i, (y, x) in zip(which, corners, strict=True)]
    return torch.stack(cut).float().div(127.5).sub(1)


def distance(made: Tensor, wanted: Tensor) -> Tensor:
    """L1 of the pixels and of their differences to the neighbours, which is where edges are."""
    error = made - wanted
    across = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
    return error.abs().mean() + across


def latent_scale(vae: AutoencoderKL, data: Tensor) -> float:
    """1 / standard deviation of the latents, SD's scaling_factor."""
    some = data[:: len(data) // 256].float().div(127.5).sub(1)
    with torch.no_grad():
        return 1 / vae.encode(some).latent_dist.mean.std().item()


class Trainer:
    """Model, optimiser and average; everything a restart needs is in `keep`'s checkpoint."""

    def __init__(self, work: Path, steps: int, rate: float) -> None:
        torch.manual_seed(0)
        self.rate = rate
        self.file, self.steps, self.data = work / NAME, steps, pictures(work)
        self.vae = network()
        self.optimizer = torch.optim.AdamW(self.vae.parameters(), lr=rate, weight_decay=1e-4)
        self.average = training.Average(self.vae.parameters(), 0.998)
        self.start = self._resume(training.load(self.file))

    def _resume(self, state: dict | None) -> int:
        if state is None:
            return 0
        self.vae.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.average.shadow = state["average"]
        return state["step"]

    def step(self, place: int) -> float:
        """One batch of crops; the loss shown is the L1 of the pixels."""
        generator = torch.Generator().manual_seed(place)
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate * training.cosine(place, self.steps, warmup=100)
        wanted = crops(self.data, generator)
        with torch.autocast("cpu", torch.bfloat16):
            code = self.vae.encode(wanted).latent_dist
            made = self.vae.decode(code.sample(generator)).sample
        loss = distance(made.float(), wanted) + 1e-3 * code.kl().mean() / code.mean[0].numel()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.vae.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.average.update(place)
        return (made.detach().float() - wanted).abs().mean().item()

    def keep(self, place: int) -> None:
        """Write the checkpoint."""
        self.average.swap()
        scaling = latent_scale(self.vae, self.data)
        self.average.swap()
        state = {"step": place, "model": self.vae.state_dict(), "scaling": scaling}
        state |= {"optimizer": self.optimizer.state_dict(), "average": self.average.shadow}
        training.save(self.file, state)


def main() -> None:
    """Train to --steps."""
    given = training.arguments(__doc__ or "", steps=3_000, rate=2e-3)
    trainer = Trainer(given.work, given.steps, given.rate)
    print(f"autoencoder: {training.count(trainer.vae):,} parameters", flush=True)
    training.run(given.steps, trainer.start, trainer.step, trainer.keep, given.save_every)


if __name__ == "__main__":
    main()

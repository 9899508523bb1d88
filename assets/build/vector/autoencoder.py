"""Train the autoencoder: 128 × 128 pixels to 16 × 16 × 8 latents and back.

diffusers' AutoencoderTiny, which StableDiffusionPipeline takes in an AutoencoderKL's place. Encoder
and decoder first, by L1 and the differences of neighbours; every latent channel is held at mean 0
and deviation 1, since a UNet that starts at pure noise would paint another mean otherwise. For the
last part of the steps the encoder stays as it is, so that a base can be trained on it meanwhile,
and a discriminator looks at what the decoder makes.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import torch
from diffusers import AutoencoderTiny
from torch import Tensor, nn
from torch.nn import functional

from assets.build import training
from assets.build.models import LATENTS
from assets.build.vector import crops, settings
from assets.build.vector.muon import Muon

NAME = "autoencoder.pt"
WIDTH = 64  # of every layer
ANYWHERE = 0.5  # share of the crops that are cut anywhere, not around an edge
NOISE = 0.05  # on the latents, in deviations: a UNet never draws quite clean
STEADY = 0.005  # weight of the latents' means and variances
MEMORY = 0.02  # share of each batch in their running values
AVERAGE = 0.995  # no longer than weights stay alike at a level rate
FREEZE = 0.8  # share of the steps after which the encoder stays
ADVERSARIAL = 0.02
WARMUP = 100  # steps from where a training begins
HELD_OUT = 48


def network() -> AutoencoderTiny:
    """An untrained autoencoder: deep where pictures are small, without normalisation."""
    return AutoencoderTiny(
        encoder_block_out_channels=(WIDTH,) * 4,
        decoder_block_out_channels=(WIDTH,) * 4,
        num_encoder_blocks=(0, 2, 4, 6),
        num_decoder_blocks=(6, 4, 3, 0),
        latent_channels=LATENTS,
    )


def discriminator() -> nn.Sequential:
    """Says of each patch of a picture whether it is a real one: above or below 0."""
    return nn.Sequential(
        nn.Conv2d(3, 32, 4, 2, 1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(32, 64, 4, 2, 1),
        nn.GroupNorm(8, 64),
        nn.LeakyReLU(0.2),
        nn.Conv2d(64, 96, 4, 2, 1),
        nn.GroupNorm(8, 96),
        nn.LeakyReLU(0.2),
        nn.Conv2d(96, 1, 3, 1, 1),
    )


def shipped() -> AutoencoderTiny:
    """The autoencoder of the shipped base, float32."""
    return AutoencoderTiny.from_pretrained(settings.SHIPPED / "vae", torch_dtype=torch.float32)


def trained(work: Path) -> AutoencoderTiny:
    """The averaged autoencoder of the last checkpoint, or the shipped one; float32."""
    state, made = training.load(work / NAME), shipped()
    if state is not None:
        for parameter, value in zip(made.parameters(), state["average"], strict=True):
            parameter.data.copy_(value)
    return made.eval().requires_grad_(False)


def distance(made: Tensor, wanted: Tensor) -> Tensor:
    """L1 of the pixels and of their differences to the neighbours, which is where edges are."""
    error = made - wanted
    across = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
    return error.abs().mean() + across


class Moments:
    """Running mean and variance of each latent channel, and the pull to 0 and 1."""

    def __init__(self, device: str) -> None:
        self.values = torch.stack([torch.zeros(LATENTS), torch.ones(LATENTS)]).to(device)

    def pull(self, latents: Tensor) -> Tensor:
        """Its gradient moves each channel by how far the running values are off."""
        now = torch.stack([latents.mean((0, 2, 3)), latents.var((0, 2, 3))])
        self.values = self.values.lerp(now.detach(), MEMORY)
        off = self.values - torch.tensor([[0.0], [1.0]], device=latents.device)
        return (off * now).sum()


class Trainer:
    """Models, optimisers and average; everything a restart needs is in `keep`'s checkpoint."""

    def __init__(self, given: argparse.Namespace) -> None:
        torch.manual_seed(0)
        self.given, self.file = given, given.work / NAME
        model = network() if given.scratch else shipped()
        self.model = model.to(given.device, memory_format=torch.channels_last)
        self.judge = discriminator().to(given.device, memory_format=torch.channels_last)
        self.optimizer = Muon(self.model.parameters(), given.rate)
        self.judge_optimizer = torch.optim.Adam(self.judge.parameters(), 4e-4, betas=(0.5, 0.9))
        self.average = training.Average(self.model.parameters(), AVERAGE)
        self.moments, self.crops = Moments(given.device), crops.Crops(given)
        held_out = torch.from_numpy(crops.render(("held out", HELD_OUT))).to(given.device)
        self.held_out = held_out.float().div(127.5).sub(1)
        state = training.load(self.file)
        self.start = 0 if state is None else self._resume(state)

    def _resume(self, state: dict) -> int:
        for name in ("model", "judge", "optimizer", "judge_optimizer"):
            getattr(self, name).load_state_dict(state[name])
        self.average.shadow = [value.to(self.given.device) for value in state["average"]]
        self.moments.values = state["moments"].to(self.given.device)
        return state["step"]

    def step(self, place: int) -> float:
        """One batch of crops; the loss shown is the L1 of the pixels."""
        if place >= FREEZE * self.given.steps and not self.frozen:
            self._freeze()
        rate = training.cosine(place, self.given.steps, warmup=0)
        rate *= min((place - self.start + 1) / WARMUP, 1)
        self.optimizer.set_rate(self.given.rate * rate)
        anywhere = round(ANYWHERE * self.given.batch)
        wanted = self.crops.batch(self.given.batch - anywhere, anywhere, place)
        wanted = wanted.contiguous(memory_format=torch.channels_last)
        with settings.precision(self.given):
            latents = self.model.encode(wanted).latents
            made = self.model.decode(latents + NOISE * torch.randn_like(latents)).sample.float()
        loss = distance(made, wanted)
        if self.frozen:
            loss = loss - ADVERSARIAL * self.judge(made).mean()
        else:
            loss = loss + STEADY * self.moments.pull(latents.float()[:anywhere])
        self._update(loss, place)
        if self.frozen:
            self._teach_judge(made.detach(), wanted)
        return (made.detach() - wanted).abs().mean().item()

    @property
    def frozen(self) -> bool:
        """Whether only the decoder is trained."""
        return not self.model.encoder.layers[0].weight.requires_grad

    def _freeze(self) -> None:
        """From the averages on; the encoder's stay what they are now."""
        for live, shadow in zip(self.average.live, self.average.shadow, strict=True):
            live.data.copy_(shadow)
        self.model.encoder.requires_grad_(False)

    def _update(self, loss: Tensor, place: int) -> None:
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.average.update(place)

    def _teach_judge(self, made: Tensor, real: Tensor) -> None:
        self.judge_optimizer.zero_grad()
        error = functional.relu(1 - self.judge(real)) + functional.relu(1 + self.judge(made))
        error.mean().backward()
        self.judge_optimizer.step()

    @torch.no_grad()
    def keep(self, place: int) -> None:
        """Write the checkpoint, and say how good the averages are on scenes never trained on."""
        self.average.swap()
        latents = self.model.encode(self.held_out).latents
        made = self.model.decode(latents).sample.clamp(-1, 1)
        self.average.swap()
        error = made - self.held_out
        ratio = 10 * math.log10(4 / error.square().mean().item())
        means, deviations = latents.mean((0, 2, 3)), latents.std((0, 2, 3))
        print(
            f"{place}: {HELD_OUT} scenes held out, L1 {error.abs().mean().item():.4f}, "
            f"PSNR {ratio:.2f}; latents' means {means.min():.2f} to {means.max():.2f}, "
            f"deviations {deviations.min():.2f} to {deviations.max():.2f}",
            flush=True,
        )
        names = ("model", "judge", "optimizer", "judge_optimizer")
        state = {name: getattr(self, name).state_dict() for name in names}
        state |= {"step": place, "average": self.average.shadow, "moments": self.moments.values}
        training.save(self.file, state)


def main() -> None:
    """Train to --steps."""
    options = settings.trainer(__doc__ or "", 60_000, 1.2e-3, {"cpu": 8, "cuda": 256})
    options.add_argument("--scratch", action="store_true", help="begin with an untrained one")
    given = settings.parsed(options)
    trainer = Trainer(given)
    print(f"autoencoder: {training.count(trainer.model):,} parameters", flush=True)
    settings.run(given, trainer.start, trainer.step, trainer.keep)


if __name__ == "__main__":
    main()

"""Train text encoder and UNet together on the latents of rendered scenes, 16 × 16 × 8.

SD 1.5's noise schedule, epsilon loss with min-SNR weights (Hang et al. 2023, arXiv 2303.09556), one
caption in ten empty, a moving average of the weights. Both start from the base that is shipped, or
from scratch.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0
from torch import Tensor, nn
from torch.nn import functional
from transformers import CLIPTextModel

from assets.build import models, training
from assets.build.vector import settings
from assets.build.vector.rounds import Pool

NAME = "base-128.pt"
CEILING = 5.0  # of signal to noise, in the weights
WARMUP = 300  # steps from where a training begins
OFFSET, COARSE = 0.3, (1, 2)  # deviation and sides of what is added to the noise: see `noise_like`
LATE, LATE_SHARE = 600, 0.4  # so many of the times are drawn from here on: there text decides
FLOOR = 0.05  # an error of the picture counts no less, however late the time


class Predictor(nn.Module):
    """Text encoder and UNet as one module: tokens, noisy latents and times to the noise."""

    def __init__(self, text_encoder: CLIPTextModel, unet: UNet2DConditionModel) -> None:
        super().__init__()
        self.text_encoder, self.unet = text_encoder, unet

    def forward(self, words: Tensor, noisy: Tensor, times: Tensor) -> Tensor:
        """The noise (n, 8, 16, 16) that is guessed to be in `noisy`."""
        text = self.text_encoder(words).last_hidden_state
        return self.unet(noisy, times, text).sample


def attend_fast(unet: UNet2DConditionModel, device: str) -> None:
    """Choose the attention that trains faster: on a CPU that is not torch's fused one."""
    unet.set_attn_processor(AttnProcessor() if device == "cpu" else AttnProcessor2_0())


def begin(scratch: bool) -> Predictor:
    """What a training begins with: the base that is shipped, or models without any training."""
    if scratch:
        return Predictor(models.text_encoder().train(), models.unet().train())
    single = {"dtype": torch.float32}
    text_encoder = CLIPTextModel.from_pretrained(settings.SHIPPED / "text_encoder", **single)
    unet = UNet2DConditionModel.from_pretrained(
        settings.SHIPPED / "unet", torch_dtype=torch.float32
    )
    return Predictor(text_encoder.train(), unet.train())


def noise_like(latents: Tensor, generator: torch.Generator) -> Tensor:
    """Noise whose coarse parts say nothing of the picture's.

    SD's schedule leaves .07 of the latents at its last step, enough to read the background off the
    means of eight channels, over all places or over the upper and the lower half. A base that
    learns this paints the background that the first noise happens to have, whatever the prompt.
    Coarse noise on top of the fine hides it (Guttenberg 2023, "Diffusion with offset noise").
    """
    drawn = {"generator": generator, "device": latents.device}
    noise = torch.randn(latents.shape, **drawn)
    for side in COARSE:
        coarse = torch.randn(*latents.shape[:2], side, side, **drawn)
        noise = noise + OFFSET * functional.interpolate(coarse, latents.shape[2:], mode="bilinear")
    return noise


def weights(ratio: Tensor) -> Tensor:
    """Of an epsilon error, by the signal-to-noise ratio of its time.

    Min-SNR where there is little noise. Where there is much, an epsilon error hides what it does to
    the picture, which is `FLOOR / ratio` times as large.
    """
    return (CEILING / ratio).clamp(max=1) * (FLOOR / ratio).clamp(min=1)


def draw_times(count: int, generator: torch.Generator) -> Tensor:
    """(count,) times of the schedule, a share of them late."""
    drawn = {"generator": generator, "device": generator.device}
    late = torch.rand(count, **drawn) < LATE_SHARE
    return torch.where(
        late,
        torch.randint(LATE, 1000, (count,), **drawn),
        torch.randint(0, 1000, (count,), **drawn),
    )


class Trainer:
    """Models, optimiser and average; everything a restart needs is in `keep`'s checkpoint."""

    def __init__(self, given: argparse.Namespace) -> None:
        torch.manual_seed(0)
        self.given, self.file = given, given.work / NAME
        self.model = begin(given.scratch).to(given.device)
        attend_fast(self.model.unet, given.device)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=given.rate, fused=True)
        self.average = training.Average(self.model.parameters(), 0.999)
        state = training.load(self.file)
        self.start = 0 if state is None else self._resume(state)
        self.pool = Pool(given)
        self.schedule = models.noise_schedule()
        self.ratio = models.signal_to_noise(self.schedule).to(given.device)

    def _resume(self, state: dict) -> int:
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.average.shadow = [value.to(self.given.device) for value in state["average"]]
        return state["step"]

    def step(self, place: int) -> float:
        """One batch; returns the plain epsilon error."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.given.rate * training.cosine(place, self.given.steps, warmup=0)
            group["lr"] *= min((place - self.start + 1) / WARMUP, 1)
        latents, words = self.pool.batch(place)
        generator = torch.Generator(latents.device).manual_seed(place)
        times, noise = draw_times(len(latents), generator), noise_like(latents, generator)
        noisy = self.schedule.add_noise(latents, noise, times)
        with settings.precision(self.given):
            guess = self.model(words, noisy, times)
        error = (guess.float() - noise).square().mean(dim=(1, 2, 3))
        (error * weights(self.ratio[times])).mean().backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.average.update(place)
        return error.mean().item()

    def keep(self, place: int) -> None:
        """Write the checkpoint."""
        state = {"step": place, "model": self.model.state_dict()}
        state |= {"optimizer": self.optimizer.state_dict(), "average": self.average.shadow}
        training.save(self.file, state)


def trained(work: Path) -> Predictor:
    """The averaged models of the last checkpoint, or the shipped ones; float32."""
    state, model = training.load(work / NAME), begin(scratch=False)
    if state is not None:
        for parameter, value in zip(model.parameters(), state["average"], strict=True):
            parameter.data.copy_(value)
    return model.eval()


def main() -> None:
    """Train to --steps."""
    options = settings.trainer(__doc__ or "", 10_000, 1e-3, {"cpu": 32, "cuda": 512})
    options.add_argument("--scratch", action="store_true", help="begin with untrained models")
    given = settings.parsed(options)
    trainer = Trainer(given)
    print(f"text encoder and UNet: {training.count(trainer.model):,} parameters", flush=True)
    settings.run(given, trainer.start, trainer.step, trainer.keep)


if __name__ == "__main__":
    main()

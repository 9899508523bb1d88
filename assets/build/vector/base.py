"""Train text encoder and UNet together on the latents of rendered scenes, 16 × 16 × 8.

SD 1.5's noise schedule, epsilon loss with min-SNR weights (Hang et al. 2023, arXiv 2303.09556), one
caption in ten empty, a moving average of the weights. Both start from the base that is shipped, of
64 pixels now, whose UNet gets a new first and last convolution for eight channels; or from scratch.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor, nn
from transformers import CLIPTextModel

from assets.build import train_base, training
from assets.build.vector import autoencoder, settings
from assets.build.vector.rounds import Pool

NAME = "base-128.pt"
CEILING = 5.0  # of signal to noise, in the weights


class Predictor(nn.Module):
    """Text encoder and UNet as one module: tokens, noisy latents and times to the noise."""

    def __init__(self, text_encoder: CLIPTextModel, unet: UNet2DConditionModel) -> None:
        super().__init__()
        self.text_encoder, self.unet = text_encoder, unet
        unet.set_attn_processor(AttnProcessor())  # trains faster on CPU than SDPA

    def forward(self, words: Tensor, noisy: Tensor, times: Tensor) -> Tensor:
        """The noise (n, 8, 16, 16) that is guessed to be in `noisy`."""
        text = self.text_encoder(words).last_hidden_state
        return self.unet(noisy, times, text).sample


def begin(folder: Path | None) -> Predictor:
    """The models of the pipeline in `folder`, made fit for these latents; untrained without one."""
    if folder is None:
        text_encoder, unet = train_base.text_encoder(), train_base.unet()
    else:
        text_encoder = CLIPTextModel.from_pretrained(folder / "text_encoder", dtype=torch.float32)
        unet = UNet2DConditionModel.from_pretrained(folder / "unet", torch_dtype=torch.float32)
    fit(unet)
    return Predictor(text_encoder.train(), unet.train())


def fit(unet: UNet2DConditionModel) -> None:
    """Give the UNet new first and last convolutions if it is made for other latents."""
    if unet.config.in_channels == autoencoder.LATENTS:
        return
    width = unet.config.block_out_channels[0]
    unet.conv_in = nn.Conv2d(autoencoder.LATENTS, width, 3, padding=1)
    unet.conv_out = nn.Conv2d(width, autoencoder.LATENTS, 3, padding=1)
    unet.register_to_config(in_channels=autoencoder.LATENTS, out_channels=autoencoder.LATENTS)


class Trainer:
    """Models, optimiser and average; everything a restart needs is in `keep`'s checkpoint."""

    def __init__(self, given: argparse.Namespace) -> None:
        torch.manual_seed(0)
        self.given, self.file = given, given.work / NAME
        self.model = begin(None if given.scratch else settings.SHIPPED).to(given.device)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=given.rate, fused=True)
        self.average = training.Average(self.model.parameters(), 0.999)
        state = training.load(self.file)
        self.start = 0 if state is None else self._resume(state)
        self.pool = Pool(given)
        self.schedule = train_base.noise_schedule()
        self.ratio = train_base.signal_to_noise(self.schedule).to(given.device)

    def _resume(self, state: dict) -> int:
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.average.shadow = [value.to(self.given.device) for value in state["average"]]
        return state["step"]

    def step(self, place: int) -> float:
        """One batch; returns the plain epsilon error."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.given.rate * training.cosine(place, self.given.steps, warmup=300)
        latents, words = self.pool.batch(place)
        generator = torch.Generator(latents.device).manual_seed(place)
        drawn = {"generator": generator, "device": latents.device}
        times = torch.randint(0, 1000, (len(latents),), **drawn)
        noise = torch.randn(latents.shape, **drawn)
        noisy = self.schedule.add_noise(latents, noise, times)
        with settings.precision(self.given):
            guess = self.model(words, noisy, times)
        error = (guess.float() - noise).square().mean(dim=(1, 2, 3))
        weight = (CEILING / self.ratio[times]).clamp(max=1)
        (error * weight).mean().backward()
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
    """The averaged models of the last checkpoint, float32."""
    state = training.load(work / NAME)
    if state is None:
        raise SystemExit(f"No {NAME} in {work}: train the base first.")
    model = begin(None)
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

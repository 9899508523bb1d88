"""Train the text encoder and the UNet together, from scratch, on latents of rendered scenes.

SD 1.5's noise schedule, epsilon loss with min-SNR weights (Hang et al. 2023, arXiv 2303.09556),
one caption in ten empty, a moving average of the weights. Scenes are rendered in rounds, each from
its own seed, and every step draws from its own, so that a restart goes on as if nothing happened.
The batch is shared by `--threads` processes of one thread each, which wait for one another once a
step; threads of one process wait thousands of times, which is slow where other work runs.
"""

from __future__ import annotations

import argparse
import contextlib
import random
from pathlib import Path

import torch
from diffusers import DDPMScheduler, PNDMScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor, distributed, multiprocessing, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from assets.build import scenes, sprites, tokenizer, train_vae, training

BATCH = 32
ROUND = 9_600  # scenes rendered at once; none comes twice
LEVELS = 3
NAME = "base.pt"


def text_encoder() -> CLIPTextModel:
    """An untrained text encoder, 4 layers of width 128."""
    config = CLIPTextConfig(
        vocab_size=tokenizer.TOKENS,
        hidden_size=128,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=4,
        projection_dim=128,
        max_position_embeddings=tokenizer.LENGTH,
        bos_token_id=tokenizer.TOKENS - 2,
        eos_token_id=tokenizer.TOKENS - 1,
        pad_token_id=tokenizer.TOKENS - 1,
    )
    return CLIPTextModel(config)


def unet() -> UNet2DConditionModel:
    """An untrained UNet, 64-128-128, with cross-attention at every level, 4 heads."""
    return UNet2DConditionModel(
        sample_size=16,
        block_out_channels=(64, 128, 128),
        layers_per_block=1,
        cross_attention_dim=128,
        attention_head_dim=4,
        down_block_types=("CrossAttnDownBlock2D",) * LEVELS,
        up_block_types=("CrossAttnUpBlock2D",) * LEVELS,
    )


def scheduler() -> PNDMScheduler:
    """The sampling schedule, as SD 1.5 ships it."""
    made = PNDMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        skip_prk_steps=True,
        set_alpha_to_one=False,
        steps_offset=1,
    )
    made.register_to_config(clip_sample=False)  # for whoever makes another scheduler from it
    return made


def noise_schedule() -> DDPMScheduler:
    """The same schedule, for adding noise."""
    return DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")


def tokens(cutter: CLIPTokenizer, captions: list[str]) -> Tensor:
    """(n, 32) token numbers, padded."""
    return cutter(captions, padding="max_length", truncation=True, return_tensors="pt").input_ids


def signal_to_noise(schedule: DDPMScheduler) -> Tensor:
    """ᾱ / (1 − ᾱ) for each of the 1,000 times."""
    return schedule.alphas_cumprod / (1 - schedule.alphas_cumprod)


@torch.no_grad()
def encode(vae: nn.Module, pictures: list) -> Tensor:
    """Scaled latents (n, 4, 16, 16), float32."""
    pixels = torch.from_numpy(scenes.pixels(pictures))
    codes = []
    with torch.autocast("cpu", torch.bfloat16):
        for part in pixels.split(128):
            codes.append(vae.encode(part.float().div(127.5).sub(1)).latent_dist.mean.float())
    return torch.cat(codes) * vae.config.scaling_factor


class Scenes:
    """One process's share of the latents and token numbers, round after round."""

    def __init__(self, work: Path, rank: int, world: int) -> None:
        self.sprites, self.vae = sprites.load("google", work), train_vae.trained(work)
        self.cutter, self.rank = tokenizer.build(work), rank
        self.size, self.round = BATCH // world, ROUND // world
        self.number, self.scenes = -1, (torch.empty(0), torch.empty(0))

    def batch(self, place: int) -> tuple[Tensor, Tensor]:
        """Latents and tokens of this process's part of the batch at this step."""
        count, part = divmod(place * self.size, self.round)
        order = torch.randperm(self.round, generator=torch.Generator().manual_seed(count))
        which = order[part : part + self.size]
        if count != self.number:
            self.number, self.scenes = count, self._render(count)
        latents, words = self.scenes
        return latents[which], words[which]

    def _render(self, number: int) -> tuple[Tensor, Tensor]:
        rng = random.Random(f"base {number} {self.rank}")
        told = [scenes.sample(rng, list(self.sprites)) for _ in range(self.round)]
        latents = encode(self.vae, [scenes.draw(rng, scene, self.sprites) for scene in told])
        captions = ["" if rng.random() < 0.1 else scene.caption for scene in told]
        return latents, tokens(self.cutter, captions)


class Predictor(nn.Module):
    """Text encoder and UNet as one module: tokens, noisy latents and times to the noise."""

    def __init__(self) -> None:
        super().__init__()
        self.text_encoder, self.unet = text_encoder(), unet()
        self.unet.set_attn_processor(AttnProcessor())  # trains faster on CPU than SDPA

    def forward(self, words: Tensor, noisy: Tensor, times: Tensor) -> Tensor:
        """The noise (n, 4, 16, 16) that is guessed to be in `noisy`."""
        text = self.text_encoder(words).last_hidden_state
        return self.unet(noisy, times, text).sample


class Trainer:
    """One process of the training; process 0 keeps the average and writes the checkpoints."""

    def __init__(self, given: argparse.Namespace, rank: int) -> None:
        torch.manual_seed(0)
        self.file, self.steps, self.rate = given.work / NAME, given.steps, given.rate
        self.rank, self.world = rank, given.threads
        self.data = Scenes(given.work, rank, self.world)
        self.model = Predictor()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=given.rate, fused=True)
        self.average = training.Average(self.model.parameters(), 0.999)
        self.start = self._resume(training.load(self.file))
        self.shared = nn.parallel.DistributedDataParallel(self.model)
        self.schedule = noise_schedule()
        self.ratio = signal_to_noise(self.schedule)

    def _resume(self, state: dict | None) -> int:
        if state is None:
            return 0
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.average.shadow = state["average"]
        return state["step"]

    def step(self, place: int) -> float:
        """One batch; returns the plain epsilon error of this process's part."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate * training.cosine(place, self.steps, warmup=300)
        generator = torch.Generator().manual_seed(place * self.world + self.rank)
        latents, words = self.data.batch(place)
        times = torch.randint(0, 1000, (len(latents),), generator=generator)
        noise = torch.randn(latents.shape, generator=generator)
        with torch.autocast("cpu", torch.bfloat16):
            guess = self.shared(words, self.schedule.add_noise(latents, noise, times), times)
        error = (guess.float() - noise).square().mean(dim=(1, 2, 3))
        (error * (5 / self.ratio[times]).clamp(max=1)).mean().backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.rank == 0:
            self.average.update(place)
        return error.mean().item()

    def keep(self, place: int) -> None:
        """Write the checkpoint."""
        if self.rank == 0:
            state = {"step": place, "model": self.model.state_dict()}
            state |= {"optimizer": self.optimizer.state_dict(), "average": self.average.shadow}
            training.save(self.file, state)


def trained(work: Path) -> tuple[CLIPTextModel, UNet2DConditionModel]:
    """The averaged models of the last checkpoint."""
    state = training.load(work / NAME)
    if state is None:
        raise SystemExit(f"No {NAME} in {work}: run train_base first.")
    model = Predictor()
    for parameter, value in zip(model.parameters(), state["average"], strict=True):
        parameter.data.copy_(value)
    return model.text_encoder.eval(), model.unet.eval()


def work_along(rank: int, given: argparse.Namespace, meeting: str) -> None:
    """What each process does; only process 0 prints."""
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", f"file://{meeting}", rank=rank, world_size=given.threads)
    with contextlib.redirect_stdout(None) if rank else contextlib.nullcontext():
        trainer = Trainer(given, rank)
        print(f"text encoder and UNet: {training.count(trainer.model):,} parameters", flush=True)
        training.run(given.steps, trainer.start, trainer.step, trainer.keep, given.save_every)
    distributed.destroy_process_group()


def main() -> None:
    """Train to --steps."""
    given = training.arguments(__doc__ or "", steps=5_000, rate=1e-3)
    meeting = given.work.resolve() / "meeting"
    meeting.unlink(missing_ok=True)
    multiprocessing.spawn(work_along, (given, str(meeting)), nprocs=given.threads)


if __name__ == "__main__":
    main()

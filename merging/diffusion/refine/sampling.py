"""Latents drawn by the base under the change of one LoRA, of a merge, or of none.

x_t = √ᾱ_t x₀ + √(1 − ᾱ_t) z is DDIM's forward process (arXiv:2010.02502); a kept part of a picture
follows it while the rest is drawn, as in RePaint (arXiv:2201.09865) without its resampling.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from diffusers import DDIMScheduler
from torch import Tensor

from merging.diffusion.base import Base
from merging.diffusion.calibration_samples import POSITIONS_PER_BATCH
from merging.diffusion.prompts.encoder import encode, piece_count
from merging.diffusion.refine.concept import NO_CHANGE, ModelChange
from merging.runtime.progress import Progress, part, silent

STYLE_STRENGTH = 0.6  # share of the steps that draw over a finished picture


@dataclass(frozen=True)
class KeptPart:
    """A part of finished pictures that stays while the rest is drawn."""

    latents: Tensor  # x₀ (n, channels, height, width)
    mask: Tensor  # (n, 1, height, width): 1 where x₀ stays
    noise: Tensor  # z, of the latents' shape

    def slice(self, rows: slice) -> KeptPart:
        """The same for some of the pictures."""
        return KeptPart(self.latents[rows], self.mask[rows], self.noise[rows])


def seeded_noise(base: Base, seeds: Sequence[int], size: tuple[int, int]) -> Tensor:
    """z (seeds, channels, height, width), drawn on the CPU picture by picture."""
    shape = (base.pipeline.unet.config.in_channels, *size)
    rows = [torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    return torch.stack(rows).to(base.device, base.dtype)


def text_states(base: Base, prompts: Sequence[str]) -> Tensor:
    """Output of the text encoder as it is now: (prompts, pieces · tokens, width)."""
    return encode(base, prompts, max(piece_count(base, prompt) for prompt in prompts))


def noise_scheduler(base: Base) -> DDIMScheduler:
    """DDIM with the base's noise levels ᾱ_t."""
    return DDIMScheduler.from_config(base.pipeline.scheduler.config, clip_sample=False)


@torch.no_grad()
def draw_latents(
    base: Base,
    prompts: Sequence[str],
    noise: Tensor,
    change: ModelChange = NO_CHANGE,
    *,
    steps: int,
    guidance: float,
    negative: str = "",
    kept: KeptPart | None = None,
    over: Tensor | None = None,
    progress: Progress = silent,
) -> Tensor:
    """x₀ of one picture per prompt, from ``noise`` (prompts, channels, height, width).

    As `render` draws with DDIM, batch by batch. ``over`` are finished latents that are drawn over:
    noised first, so that the last `STYLE_STRENGTH` of the steps are left.
    """
    size = max(1, POSITIONS_PER_BATCH // (2 * noise.shape[2] * noise.shape[3]))
    latents = []
    with change.applied(base):
        for start in range(0, len(prompts), size):
            rows = slice(start, start + size)
            share = part(progress, start / len(prompts), min(1, (start + size) / len(prompts)))
            schedule = _Schedule(base, steps, None if over is None else over[rows])
            some = kept.slice(rows) if kept else None
            texts = [*[negative] * len(prompts[rows]), *prompts[rows]]
            latents.append(schedule.denoise(texts, noise[rows], guidance, some, share))
    return torch.cat(latents)


class _Schedule:
    """The steps of one batch, all of them or those that draw over finished latents."""

    def __init__(self, base: Base, steps: int, over: Tensor | None) -> None:
        self.base, self.over, self.scheduler = base, over, noise_scheduler(base)
        self.scheduler.set_timesteps(steps, device=base.device)
        first = 0 if over is None else round(steps * (1 - STYLE_STRENGTH))
        self.times = self.scheduler.timesteps[first:]

    def denoise(
        self,
        texts: Sequence[str],
        noise: Tensor,
        guidance: float,
        kept: KeptPart | None,
        progress: Progress,
    ) -> Tensor:
        """From noise to x₀ under the model as it is now; texts are the negative ones first."""
        states = text_states(self.base, texts)
        add_noise = self.scheduler.add_noise
        latents = noise if self.over is None else add_noise(self.over, noise, self.times[:1])
        for step, time in enumerate(self.times):
            progress(step / len(self.times), f"step {step + 1} of {len(self.times)}")
            if kept:
                known = add_noise(kept.latents, kept.noise, time[None])
                latents = kept.mask * known + (1 - kept.mask) * latents
            doubled = latents.repeat(2, 1, 1, 1)
            both = self.base.pipeline.unet(doubled, time, encoder_hidden_states=states).sample
            empty, named = both.chunk(2)
            predicted = empty + guidance * (named - empty)
            latents = self.scheduler.step(predicted, time, latents).prev_sample
        return kept.mask * kept.latents + (1 - kept.mask) * latents if kept else latents

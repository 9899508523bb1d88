"""A carried LoRA trained further on pictures that its own base draws with it.

x_t         a picture that the old base draws with the LoRA, noised at t
e_old(x_t)  ε with the LoRA minus ε without it, in the old base
e_new(x_t)  the same in the new base, with the factors as they are now
    loss  = mean of min(1, 5 / SNR(t)) ‖e_new − e_old‖²      (min-SNR, arXiv:2303.09556)

That no data are needed but self-made ones is the idea of Trans-LoRA (arXiv:2405.17258), where the
new model learns what the old one says. Here it learns what the LoRA adds to what the old one says:
all the rest of the old base would come along otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor

from merging.base_models import base_model
from merging.diffusion.base import Base, latent_size
from merging.diffusion.refine.concept import ModelChange
from merging.diffusion.refine.sampling import (
    draw_latents,
    noise_scheduler,
    seeded_noise,
    text_states,
)
from merging.diffusion.refine.student import Student, autocast, trainable
from merging.diffusion.refine.training import MOST_NORM, RATE, SNR, schedule
from merging.linalg.delta import Delta
from merging.runtime.progress import Progress, Stop, check, part
from merging.runtime.seeds import seed_for

PICTURE_STEPS = 12  # of sampling
ROWS = 4  # noised pictures in one step


@dataclass(frozen=True)
class Lesson:
    """Some noised pictures, and what the LoRA adds to ε of its own base."""

    noised: Tensor  # x_t (rows, channels, height, width)
    times: Tensor  # (rows,)
    prompts: tuple[str, ...]
    scale: Tensor  # min(1, 5 / SNR(t)), (rows,)

    def predict(self, base: Base) -> Tensor:
        """ε of a base as it is now, float32."""
        with autocast(base):
            states = text_states(base, self.prompts)
            unet = base.pipeline.unet
            return unet(self.noised, self.times, encoder_hidden_states=states).sample.float()

    @torch.no_grad()
    def added(self, base: Base, change: AbstractContextManager[None]) -> Tensor:
        """ε with a change minus ε without it."""
        without = self.predict(base)
        with change:
            return self.predict(base) - without


def distil(
    lora: ModelChange,
    old: Base,
    new: Base,
    start: Mapping[str, Delta],
    prompts: Sequence[str],
    steps: int,
    seed: int,
    progress: Progress,
    stop: Stop,
) -> dict[str, Delta]:
    """Layer → change after so many steps of AdamW from ``start``; one picture for each prompt."""
    seeds = [seed_for(seed, "distil", str(number)) for number in range(len(prompts))]
    drawn = draw_latents(
        old,
        prompts,
        seeded_noise(old, seeds, latent_size(old)),
        lora,
        steps=PICTURE_STEPS,
        guidance=base_model(old.name).guidance,
        progress=part(progress, 0.0, 0.3),
    )
    generator = torch.Generator().manual_seed(seed_for(seed, "distil"))
    with trainable(new):
        student = Student(new, start, lora.shifts)
        optimiser = torch.optim.AdamW(student.parameters, lr=RATE, weight_decay=0.0)
        for step in range(steps):
            check(stop)
            share = part(progress, 0.3, 1.0)
            share(step / steps, f"training, step {step + 1} of {steps}")
            for group in optimiser.param_groups:
                group["lr"] = RATE * schedule(step, steps)
            lesson = noised(new, drawn, prompts, generator)
            wanted = lesson.added(old, lora.applied(old))
            _backward(student, lesson, wanted)
            torch.nn.utils.clip_grad_norm_(student.parameters, MOST_NORM)
            optimiser.step()
            optimiser.zero_grad()
    return student.layers()


def noised(base: Base, drawn: Tensor, prompts: Sequence[str], generator: torch.Generator) -> Lesson:
    """Finished latents drawn at random, noised at times drawn at random."""
    scheduler = noise_scheduler(base)
    numbers = torch.randint(len(drawn), (ROWS,), generator=generator)
    times = torch.randint(scheduler.config.num_train_timesteps, (ROWS,), generator=generator)
    latents = drawn[numbers.to(drawn.device)]
    noise = torch.randn(latents.shape, generator=generator).to(latents)
    kept = scheduler.alphas_cumprod[times]
    scale = (SNR * (1 - kept) / kept).clamp(max=1).to(latents.device)
    times = times.to(latents.device)
    noised = scheduler.add_noise(latents, noise, times)
    return Lesson(noised, times, tuple(prompts[number] for number in numbers.tolist()), scale)


def _backward(student: Student, lesson: Lesson, wanted: Tensor) -> None:
    """Add the gradients of one step."""
    with torch.no_grad():
        without = lesson.predict(student.base)
    with student.applied():
        errors = (lesson.predict(student.base) - without - wanted).square().mean(dim=(1, 2, 3))
        (errors * lesson.scale).mean().backward()

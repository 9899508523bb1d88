"""What of a LoRA there is on another fine-tune of its base: as it is, carried, and trained on.

The other base is made here: a copy of the embedded one, the weights of its UNet trained for a few
dozen steps towards drawing everything in the tuning split's style, without being asked for it.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean

import torch

from merging.adapter import Adapter
from merging.base_models import base_model
from merging.bundled import BundledLora, shelf
from merging.calibration.prompts import concept_prompts
from merging.diffusion.base import Base, latent_size
from merging.diffusion.carry.distil import noised
from merging.diffusion.carry.effect import Misses
from merging.diffusion.carry.run import CarryOptions, carry
from merging.diffusion.refine.concept import concept_of
from merging.diffusion.refine.sampling import draw_latents, seeded_noise
from merging.diffusion.render import render
from merging.evaluation.base_quality import one_prompt, place_words
from merging.evaluation.detector import Detector
from merging.evaluation.studies.block_roles import tuning_loras
from merging.runtime.progress import Progress, part
from merging.runtime.seeds import seed_for

TRIGGERS = ("sks cat",)  # of the LoRAs that are carried, unless others are asked for
STYLE = "zqx style"
FURTHER, TRAINING = 32, 40  # steps: of the other base, and of a LoRA after the closed form
RATE = 1e-4  # of AdamW on all weights of the UNet
PICTURES, PICTURE_STEPS = 16, 8  # that the other base is trained on
SAMPLES = 16  # of carrying


@dataclass(frozen=True)
class Survival:
    """One LoRA in one way on one base."""

    lora: str  # trigger
    way: str
    noise: float | None  # share of its effect on the predicted noise that is missed
    layers: float | None  # the same of its layers' outputs, on average
    found: float  # share of the pictures in which the detector finds its look


def further_trained(base: Base, steps: int, progress: Progress, seed: int = 0) -> Base:
    """A copy of the base trained towards drawing as with the style's LoRA; the base stays."""
    copied = Base(
        f"{base.name}, trained further", copy.deepcopy(base.pipeline), base.device, base.dtype
    )
    (entry,) = (lora for lora in shelf() if lora.trigger == STYLE)
    change = concept_of(base, entry.adapter(base.table)).change.on(base)
    prompts = concept_prompts(STYLE, PICTURES, seed)
    seeds = [seed_for(seed, "further", str(number)) for number in range(PICTURES)]
    noise = seeded_noise(base, seeds, latent_size(base))
    guidance = base_model(base.name).guidance
    drawn = draw_latents(
        base,
        prompts,
        noise,
        change,
        steps=PICTURE_STEPS,
        guidance=guidance,
        progress=part(progress, 0.0, 0.3),
    )
    unet = copied.pipeline.unet.requires_grad_(True)
    optimiser = torch.optim.AdamW(unet.parameters(), lr=RATE)
    generator = torch.Generator().manual_seed(seed)
    for step in range(steps):
        progress(0.3 + 0.7 * step / steps, f"another base, step {step + 1} of {steps}")
        lesson = noised(base, drawn, prompts, generator)
        with torch.no_grad(), change.applied(base):
            wanted = lesson.predict(base)
        plain = tuple(prompt.replace(f" in {STYLE}", "") for prompt in lesson.prompts)
        errors = replace(lesson, prompts=plain).predict(copied) - wanted
        errors.square().mean().backward()
        optimiser.step()
        optimiser.zero_grad()
    return copied


def measure(
    base: Base,
    detector: Detector,
    only: Sequence[str] | None,
    pictures: int,
    steps: int,
    progress: Progress,
) -> list[Survival]:
    """Make the other base, and carry the LoRAs to it."""
    loras = tuning_loras(TRIGGERS if only is None else only)
    other = further_trained(base, FURTHER, part(progress, 0.0, 0.3))
    rows = []
    for place, lora in enumerate(loras):
        start, size = 0.3 + 0.7 * place / len(loras), 0.7 / len(loras)
        study = _Study(base, other, detector, lora, pictures, steps)
        rows += study.rows(part(progress, start, start + size))
    return rows


@dataclass(frozen=True)
class _Study:
    """One LoRA on its own base, and in three ways on the other one."""

    old: Base
    new: Base
    detector: Detector
    lora: BundledLora
    pictures: int
    steps: int

    def rows(self, progress: Progress) -> list[Survival]:
        """Its rows of the table."""
        adapter, options = self.lora.adapter(self.old.table), CarryOptions(samples=SAMPLES)
        closed = carry(adapter, self.old, self.new, options, part(progress, 0.0, 0.3))
        longer = replace(options, steps=TRAINING)
        trained = carry(adapter, self.old, self.new, longer, part(progress, 0.3, 0.9))
        return [
            self._row("on its own base", self.old, adapter, None),
            self._row("as it is", self.new, adapter, closed.plain),
            self._row("carried", self.new, closed.adapter, closed.carried),
            self._row(f"carried, {TRAINING} steps", self.new, trained.adapter, trained.carried),
        ]

    def _row(self, way: str, base: Base, adapter: Adapter, missed: Misses | None) -> Survival:
        found = self._found(base, adapter)
        if missed is None:
            return Survival(self.lora.trigger, way, None, None, found)
        layers = fmean(missed.layers.values())
        return Survival(self.lora.trigger, way, missed.noise, layers, found)

    def _found(self, base: Base, adapter: Adapter) -> float:
        """Share of the pictures in which the look is stronger than the base's own thing."""
        grounds = (self.detector.grounds * self.pictures)[: self.pictures]
        prompts = [f"{one_prompt(self.lora.trigger)} {place_words(ground)}" for ground in grounds]
        images = render(
            base,
            prompts,
            range(self.pictures),
            adapters=[(adapter, 1.0)],
            steps=self.steps,
            guidance=base_model(self.old.name).guidance,
        )
        scores = self.detector.scores(images)
        return self.detector.beats_base_class(scores, self.lora.trigger).double().mean().item()


def table(rows: Sequence[Survival]) -> str:
    """Markdown."""
    lines = [
        "| LoRA | how it is loaded | noise missed | layers missed | look found |",
        "| --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        noise, layers = ("" if one is None else f"{one:.0%}" for one in (row.noise, row.layers))
        lines.append(f"| {row.lora} | {row.way} | {noise} | {layers} | {row.found:.0%} |")
    return "\n".join(lines)

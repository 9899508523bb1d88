"""Training of a merge: it learns to predict in every place what the LoRA of that place predicts.

x_t     a picture x₀ (`merging.diffusion.refine.lessons`), noised by n at t
ε_i(x_t), ε_0(x_t), ε(x_t)   predictions of LoRA i, of the base and of the merged model
w_i(p)  weight of LoRA i at place p of x₀
    ε*(p) = Σ_i w_i(p) ε_i(p) + (1 − Σ_i w_i(p)) ε_0(p)
    loss  = mean of min(1, 5 / SNR(t)) ‖ε − ε*‖²      (min-SNR, arXiv:2303.09556)
So a LoRA's ε in its place and the base's everywhere else; alone the LoRA's, of other things the
base's. Predictions are the targets, and not n: the pictures were drawn with guidance, whose colours
a merge trained on n would take over.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from merging.calibration.refine_size import ROWS
from merging.diffusion.base import Base
from merging.diffusion.calibration_samples import POSITIONS_PER_BATCH
from merging.diffusion.refine.checkpoint import Checkpoint
from merging.diffusion.refine.concept import NO_CHANGE, ModelChange
from merging.diffusion.refine.lessons import Lessons
from merging.diffusion.refine.pictures import Pictures, joined
from merging.diffusion.refine.sampling import noise_scheduler, text_states
from merging.diffusion.refine.student import Student, autocast
from merging.runtime.progress import Progress

# The recipe of the trial on cat and dog, 240 steps (docs/ablation.md).
RATE, WARM_UP, MOST_NORM = 1e-3, 20, 1.0
SNR = 5.0
EMPTY_EVERY, EMPTY = 8, 2  # so many prompts are empty in every eighth step
KEPT_EVERY = 20  # steps, in a checkpoint


@dataclass
class Losses:
    """The loss of every step, by the kind of picture."""

    by_kind: dict[str, list[float]] = field(default_factory=lambda: {kind: [] for kind in ROWS})

    def add(self, losses: Tensor) -> None:
        """Add one step's, row by row in the order of the kinds."""
        for kind, rows in zip(ROWS, losses.split(tuple(ROWS.values())), strict=True):
            self.by_kind[kind].append(rows.mean().item())

    def ends(self, kind: str) -> tuple[float, float]:
        """Means over the first and the last tenth of the steps."""
        values = self.by_kind[kind]
        tenth = max(1, len(values) // 10)
        return sum(values[:tenth]) / tenth, sum(values[-tenth:]) / tenth


def train(
    student: Student,
    loras: Sequence[ModelChange],
    lessons: Lessons,
    steps: int,
    seed: int,
    saved: Checkpoint,
    progress: Progress,
) -> Losses:
    """Train the student's factors in place, from what is ``saved`` on; the base is `trainable`."""
    run = _Run(student, seed)
    run.load(saved.read("training"))
    for step in range(run.step, steps):
        progress(step / steps, f"refining, step {step + 1} of {steps}")
        rows = _rows(lessons, step, run.generator)
        for group in run.optimiser.param_groups:
            group["lr"] = RATE * schedule(step, steps)
        run.losses.add(_backward(student, loras, rows, run.generator))
        torch.nn.utils.clip_grad_norm_(student.parameters, MOST_NORM)
        run.optimiser.step()
        run.optimiser.zero_grad()
        run.step = step + 1
        if run.step % KEPT_EVERY == 0 or run.step == steps:
            saved.write("training", run.state())
    return run.losses


class _Run:
    """A training under way."""

    def __init__(self, student: Student, seed: int) -> None:
        self.student, self.step, self.losses = student, 0, Losses()
        self.generator = torch.Generator().manual_seed(seed)
        self.optimiser = torch.optim.AdamW(student.parameters, lr=RATE, weight_decay=0.0)

    def state(self) -> dict[str, Any]:
        """All that the next step depends on."""
        return {
            "step": self.step,
            "losses": self.losses.by_kind,
            "generator": self.generator.get_state(),
            "optimiser": self.optimiser.state_dict(),
            "factors": [factor.detach() for factor in self.student.parameters],
        }

    @torch.no_grad()
    def load(self, state: dict[str, Any] | None) -> None:
        """Go on from there; None is the beginning."""
        if state is None:
            return
        self.step, self.losses = state["step"], Losses(state["losses"])
        self.generator.set_state(state["generator"])
        self.optimiser.load_state_dict(state["optimiser"])
        for factor, value in zip(self.student.parameters, state["factors"], strict=True):
            factor.copy_(value)


def schedule(step: int, steps: int) -> float:
    """Share of the rate: a warm-up, then half a cosine."""
    return min(1.0, (step + 1) / WARM_UP) * (0.5 + 0.5 * math.cos(math.pi * step / steps))


def _rows(lessons: Lessons, step: int, generator: torch.Generator) -> Pictures:
    """One step's pictures: composites, then the LoRAs in turn, then other things."""

    def some(pictures: Pictures, count: int) -> Pictures:
        numbers = torch.randint(len(pictures), (count,), generator=generator)
        return pictures.rows(numbers.tolist())

    composites = some(lessons.composites.pictures, ROWS["composites"])
    if step % EMPTY_EVERY == 0:
        prompts = ("",) * EMPTY + composites.prompts[EMPTY:]
        composites = Pictures(composites.latents, prompts, composites.weights)
    count = ROWS["alone"]
    turns = [lessons.alone[(step * count + row) % len(lessons.alone)] for row in range(count)]
    alone = [some(pictures, 1) for pictures in turns]
    return joined([composites, *alone, some(lessons.plain, ROWS["plain"])])


def _backward(
    student: Student, loras: Sequence[ModelChange], rows: Pictures, generator: torch.Generator
) -> Tensor:
    """Add the gradients of one step, a few rows at a time; returns the rows' losses."""
    base, latents = student.base, rows.latents
    scheduler = noise_scheduler(base)
    times = torch.randint(scheduler.config.num_train_timesteps, (len(rows),), generator=generator)
    noise = torch.randn(latents.shape, generator=generator).to(latents)
    noised = scheduler.add_noise(latents, noise, times.to(base.device))
    kept = scheduler.alphas_cumprod[times]
    scale = (SNR * (1 - kept) / kept).clamp(max=1).to(base.device)
    times = times.to(base.device)
    size, losses = max(1, POSITIONS_PER_BATCH // latents[0, 0].numel()), []
    for start in range(0, len(rows), size):
        few = slice(start, start + size)
        batch = _Batch(base, noised[few], times[few], rows.prompts[few])
        target = targets(batch, loras, rows.weights[few])
        with student.applied():
            errors = (batch.predict() - target).square().mean(dim=(1, 2, 3)) * scale[few]
            (errors.sum() / len(rows)).backward()
        losses.append(errors.detach().cpu())
    return torch.cat(losses)


@dataclass(frozen=True)
class _Batch:
    """x_t with its times and prompts."""

    base: Base
    noised: Tensor
    times: Tensor
    prompts: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.prompts)

    def rows(self, numbers: Tensor) -> _Batch:
        """Some of them."""
        prompts = tuple(self.prompts[number] for number in numbers.tolist())
        on_device = numbers.to(self.base.device)
        return _Batch(self.base, self.noised[on_device], self.times[on_device], prompts)

    def predict(self) -> Tensor:
        """ε(x_t) of the model as it is now, float32."""
        with autocast(self.base):
            states = text_states(self.base, self.prompts)
            unet = self.base.pipeline.unet
            return unet(self.noised, self.times, encoder_hidden_states=states).sample.float()


@torch.no_grad()
def targets(batch: _Batch, loras: Sequence[ModelChange], weights: Tensor) -> Tensor:
    """ε* of a batch; every model predicts only the rows in which it has weight."""
    rest = 1 - weights.sum(dim=1)
    target = torch.zeros_like(batch.noised, dtype=torch.float32)
    models = [*zip(loras, weights.unbind(1), strict=True), (NO_CHANGE, rest)]
    for change, share in models:
        numbers = share.flatten(1).any(dim=1).nonzero().flatten()
        if not len(numbers):
            continue
        with change.applied(batch.base):
            predicted = batch.rows(numbers).predict()
        part = share[numbers][:, None].to(predicted)
        target.index_add_(0, numbers.to(target.device), part * predicted)
    return target

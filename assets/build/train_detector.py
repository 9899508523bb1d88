"""Train the detector on scenes of the base's objects, the concepts' looks and styles; export it.

A style is one class more: it is in the picture beside whatever the picture shows.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from assets.build import round_trip, training
from assets.build.export import ASSETS
from merging.evaluation.detector import Detector

BATCH, COUNT, HELD_OUT = 64, 12_000, 500
WARP = 0.1  # of half the picture's width, one deviation
NAME = "detector.pt"


def targets(told: list[round_trip.Shown], classes: tuple[str, ...]) -> Tensor:
    """(n, classes): 1 where the class is in the scene."""
    wanted = torch.zeros(len(told), len(classes))
    for row, shown in enumerate(told):
        for name in shown.classes:
            wanted[row, classes.index(name)] = 1
    return wanted


def disturbed(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """uint8 to [0, 1], half of them blurred, all of them with noise and another brightness."""
    shape = (len(pixels), 1, 1, 1)
    clean = pixels.float() / 255
    soft = functional.avg_pool2d(clean, 3, 1, 1, count_include_pad=False)
    share = torch.rand(shape, generator=generator) * (torch.rand(shape, generator=generator) < 0.5)
    noise = torch.randn(clean.shape, generator=generator)
    strength = 0.06 * torch.rand(shape, generator=generator)
    bright = 1 + 0.1 * torch.randn(shape, generator=generator)
    return ((clean + share * (soft - clean)) * bright + strength * noise).clamp(0, 1)


def warped(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Pictures (n, 3, 64, 64) pulled about smoothly, by a few pixels: LoRAs draw no better."""
    pull = WARP * torch.randn(len(pixels), 2, 5, 5, generator=generator)
    pull = pull * torch.rand(len(pixels), 1, 1, 1, generator=generator)
    field = functional.interpolate(pull, pixels.shape[-2:], mode="bicubic", align_corners=True)
    still = functional.affine_grid(
        torch.eye(2, 3).expand(len(pixels), 2, 3), list(pixels.shape), False
    )
    moved = still + field.permute(0, 2, 3, 1)
    return functional.grid_sample(pixels, moved, padding_mode="border", align_corners=False)


class Trainer:
    """Model, optimiser and data; everything a restart needs is in `keep`'s checkpoint."""

    def __init__(self, work: Path, steps: int, rate: float) -> None:
        torch.manual_seed(0)
        self.rate = rate
        self.file, self.steps = work / NAME, steps
        self.model = Detector(round_trip.classes(work))
        told, self.pixels = round_trip.dataset(work, COUNT, "scorers", looks=0.3)
        self.wanted = targets(told, self.model.classes)
        self.data = round_trip.mark(work)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=rate, weight_decay=1e-2)
        self.start = self._resume(training.load(self.file))

    def _resume(self, state: dict | None) -> int:
        if state is None or state.get("data") != self.data:
            return 0
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        return state["step"]

    def step(self, place: int) -> float:
        """One batch; positives weigh eight times, since few classes are in a picture."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate * training.cosine(place, self.steps, warmup=50)
        generator = torch.Generator().manual_seed(place)
        which = torch.randint(len(self.pixels), (BATCH,), generator=generator)
        with torch.autocast("cpu", torch.bfloat16):
            seen = warped(disturbed(self.pixels[which], generator), generator)
            logits = self.model(seen)
        weight = torch.tensor(8.0)
        loss = functional.binary_cross_entropy_with_logits(
            logits.float(), self.wanted[which], pos_weight=weight
        )
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss.item()

    def keep(self, place: int) -> None:
        """Write the checkpoint."""
        state = {"step": place, "model": self.model.state_dict()}
        state |= {"optimizer": self.optimizer.state_dict(), "data": self.data}
        training.save(self.file, state)


@torch.no_grad()
def held_out(model: Detector, work: Path) -> str:
    """How many unseen scenes have exactly their own objects strongest, in all and by class."""
    told, pixels = round_trip.dataset(work, HELD_OUT, "held-out", looks=0.4)
    wanted = targets(told, model.classes).bool()
    scores = model.eval()(pixels.float() / 255)
    lowest = scores.masked_fill(~wanted, torch.inf).amin(dim=1)
    right = lowest > scores.masked_fill(wanted, -torch.inf).amax(dim=1)
    missed = {name for i in (~right).nonzero().flatten().tolist() for name in told[i].classes}
    return (
        f"{int(right.sum())} of {HELD_OUT} held-out scenes right; in the others: {sorted(missed)}"
    )


def main() -> None:
    """Train to --steps and write the detector to --out."""
    given = training.arguments(__doc__ or "", steps=1_200, rate=3e-3, out=ASSETS / "detector")
    trainer = Trainer(given.work, given.steps, given.rate)
    print(f"detector: {training.count(trainer.model):,} parameters", flush=True)
    training.run(given.steps, trainer.start, trainer.step, trainer.keep, given.save_every)
    print(held_out(trainer.model, given.work))
    trainer.model.save(given.out)


if __name__ == "__main__":
    main()

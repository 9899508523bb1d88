"""Train the detector on scenes of the base's objects, the concepts and styles; export it.

A style is one class more: it is in the picture beside whatever the picture shows. The background,
a colour or a place, has a head of its own.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from assets.build import training
from assets.build.vector import scenes, scored, settings
from assets.build.vector.disturbed import disturbed, warped
from merging.evaluation.detector import Detector

NAME = "detector-128.pt"
POSITIVE = 8.0  # weight of the classes that are there: few of them are in one picture
GROUND = 0.1  # weight of the background's loss


def targets(asked: list[scored.Shown], classes: tuple[str, ...]) -> Tensor:
    """(n, classes): 1 where the class is in the scene."""
    wanted = torch.zeros(len(asked), len(classes))
    for row, shown in enumerate(asked):
        for name in shown.classes:
            wanted[row, classes.index(name)] = 1
    return wanted


def grounds(asked: list[scored.Shown]) -> Tensor:
    """(n,) numbers of the backgrounds."""
    return torch.tensor([scenes.GROUNDS.index(shown.scene.ground) for shown in asked])


class Trainer:
    """Model, optimiser and data; everything a restart needs is in `keep`'s checkpoint."""

    def __init__(self, given: argparse.Namespace) -> None:
        torch.manual_seed(0)
        self.given, self.file = given, given.work / NAME
        asked = scored.scenes_of("scorers")
        self.model = Detector(scored.classes(), grounds=scenes.GROUNDS).to(given.device)
        self.pixels = scored.pictures("scorers", given)
        self.wanted = targets(asked, self.model.classes).to(given.device)
        self.ground = grounds(asked).to(given.device)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), given.rate, weight_decay=1e-2)
        self.start = training.resume(self.file, self.model, self.optimizer)

    def step(self, place: int) -> float:
        """One batch."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.given.rate * training.cosine(place, self.given.steps, warmup=50)
        generator = torch.Generator(self.given.device).manual_seed(place)
        drawn = {"generator": generator, "device": self.given.device}
        which = torch.randint(len(self.pixels), (self.given.batch,), **drawn)
        with settings.precision(self.given):
            seen = warped(disturbed(self.pixels[which], generator), generator)
            maps, ground = self.model.look(seen)
        weight = torch.tensor(POSITIVE, device=self.given.device)
        loss = functional.binary_cross_entropy_with_logits(
            maps.float().amax(dim=(-2, -1)), self.wanted[which], pos_weight=weight
        ) + GROUND * functional.cross_entropy(ground.float(), self.ground[which])
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss.item()

    def keep(self, place: int) -> None:
        """Write the checkpoint."""
        training.keep(self.file, place, self.model, self.optimizer)


@torch.no_grad()
def held_out(model: Detector, given: argparse.Namespace) -> str:
    """How many unseen scenes have exactly their own objects strongest, and their background."""
    asked = scored.scenes_of("held-out")
    parts = scored.pictures("held-out", given).split(128)
    maps, ground = (
        torch.cat(found)
        for found in zip(*(model.eval().look(part.float() / 255) for part in parts), strict=True)
    )
    scores, wanted = maps.amax(dim=(-2, -1)), targets(asked, model.classes).bool().to(given.device)
    lowest = scores.masked_fill(~wanted, torch.inf).amin(dim=1)
    right = lowest > scores.masked_fill(wanted, -torch.inf).amax(dim=1)
    alike = {name for i in (~right).nonzero().flatten().tolist() for name in asked[i].classes}
    known = (ground.argmax(dim=1).cpu() == grounds(asked)).float().mean()
    return (
        f"{int(right.sum())} of {len(asked)} held-out scenes right, {looks(asked, scores)}, "
        f"backgrounds {known:.3f}; in the others: {sorted(alike)}"
    )


def looks(asked: list[scored.Shown], scores: Tensor) -> str:
    """How often a concept scores above the base's drawing of the object, and the reverse."""
    names, right, count = list(scored.classes()), 0, 0
    for shown, row in zip(asked, scores.tolist(), strict=True):
        for name in shown.scene.objects:
            base = name.rsplit(" ", 1)[-1]
            for other in names:
                alike = other.rsplit(" ", 1)[-1] == base
                if alike and other not in shown.scene.objects:
                    right += row[names.index(name)] > row[names.index(other)]
                    count += 1
    return f"drawings of one object told apart {right / max(count, 1):.4f} of {count} times"


def main() -> None:
    """Train to --steps and write the detector to --out."""
    options = settings.trainer(__doc__ or "", 3_000, 3e-3, {"cpu": 64, "cuda": 128})
    options.add_argument("--out", type=Path, default=Path("build-work/detector-128"))
    given = settings.parsed(options)
    trainer = Trainer(given)
    print(f"detector: {training.count(trainer.model):,} parameters", flush=True)
    settings.run(given, trainer.start, trainer.step, trainer.keep)
    print(held_out(trainer.model, given), flush=True)
    trainer.model.cpu().save(given.out)


if __name__ == "__main__":
    main()

"""Set the detector's thresholds on pictures that the base has drawn, and store them.

A class counts as present above the threshold half-way between what it scores when the prompt names
it (the tenth percentile) and when it does not (the ninety-ninth). Looks and styles take the mean
threshold of the base's own classes: the base draws none of them.
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path

import torch
from torch import Tensor

from merging.diffusion.base import load_base
from merging.evaluation.base_quality import draw, two_prompt
from merging.evaluation.detector import Detector, is_look, load_detector
from merging.io.assets import ASSETS

PICTURES = 200


def thresholds(detector: Detector, scores: Tensor, named: Tensor) -> Tensor:
    """(classes,) from scores (n, classes) and what the prompts named, bool of the same shape."""
    concrete = torch.tensor([not is_look(name) for name in detector.classes])
    middle = torch.full((len(detector.classes),), torch.nan)
    for place in concrete.nonzero().flatten().tolist():
        seen, unseen = scores[named[:, place], place], scores[~named[:, place], place]
        middle[place] = (seen.quantile(0.1) + unseen.quantile(0.99)) / 2
    return middle.where(concrete, middle[concrete].mean())


def main() -> None:
    """Render two-object prompts, and write the thresholds beside the weights."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--detector", type=Path, default=ASSETS / "detector")
    folder = parser.parse_args().detector
    detector, base, rng = load_detector(folder), load_base("mini", "cpu"), random.Random(7)
    names = [name for name in detector.classes if not is_look(name)]
    couples = [(a, b) for _ in range(PICTURES // 20) for a, b in _couples(rng, names)]
    seeds = range(1000, 1000 + len(couples))
    scores = detector.scores(draw(base, [two_prompt(*couple) for couple in couples], seeds))
    named = torch.tensor([[name in couple for name in detector.classes] for couple in couples])
    detector.thresholds = thresholds(detector, scores, named)
    detector.save(folder)


def _couples(rng: random.Random, names: list[str]) -> list[tuple[str, str]]:
    """Every object once, in twos."""
    mixed = rng.sample(names, len(names))
    return list(zip(mixed[::2], mixed[1::2], strict=True))


if __name__ == "__main__":
    main()

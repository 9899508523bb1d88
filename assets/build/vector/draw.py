"""Draw every picture that the trainings need, in the order in which they need it.

They wait for what is not there yet, so this may run beside them: pictures for the autoencoder, of
the concepts, for the scorers, and rounds of scenes for the base.
"""

from __future__ import annotations

import multiprocessing
from multiprocessing.pool import Pool
from pathlib import Path

import numpy as np
import torch

from assets.build import training
from assets.build.vector import crops, loras, rounds, scored, settings
from assets.build.vector.concepts import CONCEPTS, Concept


def concept(order: tuple[Concept, Path]) -> None:
    """The pictures of one concept."""
    file = order[1] / loras.file(order[0])
    if not file.exists():
        training.save(file, loras.render(order[0]))


def scenes_of_round(order: tuple[int, Path]) -> None:
    """The pictures of one round, unless they are there or were encoded already."""
    number, work = order
    name = f"{number:03}"
    file = work / f"{name}{rounds.PICTURES}"
    if not file.exists() and not any(work.glob(f"rounds-*/{name}.pt")):
        training.save(file, rounds.render(number))


def scored_sets(pool: Pool, work: Path) -> None:
    """The pictures for detector and CLIP."""
    for name in scored.SETS:
        file = work / scored.file(name)
        if not file.exists():
            parts = pool.map(scored.render, scored.parts(name), chunksize=1)
            training.save(file, {"pixels": torch.from_numpy(np.concatenate(parts))})


def main() -> None:
    """Draw what is not there yet."""
    given = settings.parsed(settings.machine(__doc__ or ""))
    torch.set_num_threads(1)
    with multiprocessing.get_context("fork").Pool(given.renderers) as pool:
        file = given.work / crops.FILE
        if not file.exists():
            parts = pool.map(crops.render, crops.parts("crops", crops.PICTURES), chunksize=1)
            training.save(file, {"pixels": torch.from_numpy(np.concatenate(parts))})
        pool.map(concept, [(one, given.work) for one in CONCEPTS], chunksize=1)
        scored_sets(pool, given.work)
        numbers = [(number, given.work) for number in range(rounds.ROUNDS)]
        pool.map(scenes_of_round, numbers, chunksize=1)


if __name__ == "__main__":
    main()

"""Bootstrap intervals of means over pictures, with a fixed seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

DRAWS = 2000
TAIL = 0.025  # on either side: an interval of 95 %


@dataclass(frozen=True)
class Interval:
    """A mean with its 95 % bootstrap interval."""

    mean: float
    low: float
    high: float


def interval(cases: Sequence[Sequence[float]]) -> Interval:
    """The mean over cases of the mean over each case's pictures.

    The pictures of every case are resampled with replacement; the cases are not, since they were
    chosen, not sampled. Raises ValueError if a case has no picture.
    """
    if not cases or not all(cases):
        raise ValueError("no pictures to take a mean of")
    generator = torch.Generator().manual_seed(0)
    means = torch.stack([_resampled(torch.tensor(case), generator) for case in cases]).mean(dim=0)
    low, high = means.quantile(torch.tensor([TAIL, 1 - TAIL], dtype=means.dtype)).tolist()
    return Interval(sum(sum(case) / len(case) for case in cases) / len(cases), low, high)


def _resampled(values: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Means of DRAWS resamples: (DRAWS,)."""
    indices = torch.randint(len(values), (DRAWS, len(values)), generator=generator)
    return values.double()[indices].mean(dim=1)

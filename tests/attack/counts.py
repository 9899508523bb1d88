"""How often what is tried."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from tests.attack.arguments import HOSTILE

FEW = (float("nan"), 1e308, "5")


@dataclass(frozen=True)
class Counts:
    """How often what is tried; loops stop after ``seconds`` too."""

    size: str  # what these counts are called
    files: int
    kills: int
    rivals: int
    values: tuple[Any, ...]
    visitors: int
    jobs: int  # of each visitor
    pictures: int  # while the memory is watched
    seconds: float


SHORT = Counts("short", 100, 3, 5, FEW, 4, 1, 10, 60)
USUAL = Counts("usual", 10_000, 60, 300, HOSTILE, 10, 2, 40, 30)
FULL = Counts("full", 10_000, 60, 300, HOSTILE, 20, 10, 200, math.inf)

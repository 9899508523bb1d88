"""A task for a worker: plain data that pickles, so that the worker may be another process."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from app.schemas.batch import BatchOrder
from app.schemas.draw import ComparisonOrder, DrawOrder
from app.schemas.merge import MergeOrder

Kind = Literal["merge", "merge and draw", "draw", "batch", "load"]
Order = MergeOrder | ComparisonOrder | DrawOrder | BatchOrder


@dataclass(frozen=True)
class Task:
    """What is to be done, and the folder for its files. "load" loads the base of the settings."""

    kind: Kind
    order: Order | None = None
    folder: Path = Path()

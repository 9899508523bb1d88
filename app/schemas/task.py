"""A task for a worker: plain data that pickles, so that the worker may be another process."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from app.schemas.batch import BatchOrder
from app.schemas.draw import ComparisonOrder, DrawOrder
from app.schemas.merge import MergeOrder
from app.schemas.tuning import TuneOrder

AGAIN = "again-"  # begins the name of the folder of a later attempt, in that of the first

Kind = Literal["merge", "merge and draw", "draw", "batch", "tune", "load"]
Order = MergeOrder | ComparisonOrder | DrawOrder | BatchOrder | TuneOrder


@dataclass(frozen=True)
class Task:
    """What is to be done, and the folder for its files. "load" loads the base of the settings."""

    kind: Kind
    order: Order | None = None
    folder: Path = Path()


def folder_of_attempt(folder: Path, attempt: int) -> Path:
    """Where an attempt at a job in ``folder`` has its files; 0 is the first one."""
    return folder / f"{AGAIN}{attempt}" if attempt else folder


def folder_around(folder: Path) -> Path:
    """The folder in which a job has its own, that of the visit, whatever attempt this is."""
    return folder.parents[1] if folder.name.startswith(AGAIN) else folder.parent

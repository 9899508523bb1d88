"""Cells of the benchmark's table, computed by workers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory

from merging.base_models import base_model
from merging.diffusion.base import BaseChoice
from merging.errors import MergeError
from merging.evaluation.cases import Case
from merging.evaluation.cells import Arena, cell_file, compute_cell
from merging.evaluation.costs import cost_file
from merging.evaluation.detector import load_detector
from merging.evaluation.metrics import Scorers
from merging.io.atomic_write import write_whole
from merging.runtime.progress import Progress, silent
from merging.scoring.clip import load_clip
from merging.workers import Workers

Job = tuple[str, Case]  # a contestant on a case


@dataclass(frozen=True)
class ArenaChoice:
    """An arena as plain data, for whoever loads it; ``guidance`` None is the base's best."""

    base: BaseChoice
    steps: int
    guidance: float | None = None

    def arena(self, folder: Path) -> Arena:
        """The arena, with its networks loaded. Raises MergeError as `load_base`."""
        model = base_model(self.base.name)
        detector = load_detector(model.detector) if model.detector else None
        scorers = Scorers(load_clip(model.clip), detector)
        guidance = model.guidance if self.guidance is None else self.guidance
        return Arena(self.base.base, scorers, folder, self.steps, guidance)


@dataclass(frozen=True)
class CellWork:
    """The cells of a run as plain data. A task is one cell."""

    choice: ArenaChoice
    jobs: tuple[Job, ...]

    @cached_property
    def _arena(self) -> Arena:
        return self.choice.arena(Path())

    def do(self, number: int) -> dict[str, bytes]:
        """The cell's files."""
        with TemporaryDirectory(prefix="iteris-cell-") as folder:
            arena = replace(self._arena, folder=Path(folder))
            compute_cell(arena, *self.jobs[number], silent)
            return {path.name: path.read_bytes() for path in cell_files(arena, self.jobs[number])}


@dataclass(frozen=True)
class Spread:
    """Who computes the cells of a run, and with what."""

    workers: Workers
    choice: ArenaChoice

    def compute(self, arena: Arena, jobs: Sequence[Job], progress: Progress) -> None:
        """Let workers compute the cells that have no file yet; store each once it is there.

        Raises MergeError if a worker computes other cells, since it has other sources or weights.
        """
        missing = tuple(job for job in jobs if not cell_file(arena, *job).is_file())
        folder = arena.folder / "cells"
        folder.mkdir(parents=True, exist_ok=True)
        answers = self.workers.answers(CellWork(self.choice, missing), range(len(missing)))
        for done, (number, files) in enumerate(answers, start=1):
            cell = cell_file(arena, *missing[number]).name
            if cell not in files:
                raise MergeError(
                    "A worker has another release of this project, or another base model of this "
                    "name: install the same on all machines."
                )
            # Last the file that says that the cell is done.
            for name in sorted(files, key=lambda name: name == cell):
                write_whole(folder / name, files[name])
            progress(done / len(missing), f"{done} of {len(missing)} cells")


def cell_files(arena: Arena, job: Job) -> list[Path]:
    """The files of a cell that was computed; one that failed has no pictures."""
    file = cell_file(arena, *job)
    paths = (file, file.with_suffix(".png"), cost_file(file))
    return [path for path in paths if path.is_file()]

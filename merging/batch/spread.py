"""The merges of a batch, made by workers."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from merging.batch.one_merge import BatchMerge, Made, OutputFormat, make
from merging.diffusion.base import BaseChoice
from merging.runtime.progress import Progress, never, silent
from merging.workers import Workers


@dataclass(frozen=True)
class BatchWork:
    """A batch as plain data; ``output`` has no callbacks. A task is one merge."""

    merges: tuple[BatchMerge, ...]
    output: OutputFormat
    choice: BaseChoice | None = None  # None if no merge needs a base model

    def do(self, number: int) -> tuple[Made, dict[str, bytes]]:
        """The merge with its files."""
        base = self.choice.base if self.choice else None
        with TemporaryDirectory(prefix="iteris-batch-") as folder:
            made = make(self.merges[number], Path(folder), base, self.output, silent, never)
            return made, {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def made_by(workers: Workers, work: BatchWork, progress: Progress) -> Generator[Made, None, None]:
    """Every merge in order; its files go at the end, those of later ones wait on the disk."""
    count, done = len(work.merges), dict[int, Made]()
    progress(0.0, f"{count} merges, spread over workers")
    with TemporaryDirectory(prefix="iteris-batch-") as temporary:
        for number, answer in workers.answers(work, range(count)):
            done[number] = _kept(Path(temporary) / f"{number}", *answer)
            progress(len(done) / count, f"{len(done)} of {count} merges")
        for number in range(count):
            yield done[number]


def _kept(folder: Path, made: Made, files: dict[str, bytes]) -> Any:
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return replace(made, folder=folder)

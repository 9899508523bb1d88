"""How executors do on this machine: ``python -m tests.app.jobs.measure_executors [KIND …]``.

Prints a table of docs/scale.md. All of it is real work on the embedded base, with one thread of
torch for each slot. On a machine that does other things too, only ratios of one run mean something.
"""

from __future__ import annotations

import itertools
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import torch

from app.jobs.engine import Engine
from app.jobs.line import line_of
from app.jobs.queue import Executor
from app.jobs.slots import slots_of
from app.schemas.merge import SelectedFile
from app.schemas.task import Task
from app.settings.model import Settings
from merging.benchmarks.machine import machine
from merging.errors import MergeError
from tests.app.jobs.executor_visits import DRAW, LONG, MERGE, Visit, at_work, worker_of

KINDS = {"local, 1": 1, "local, 2": 2, "ray, 1": 1, "ray, 2": 2}  # executor, slots
VISITORS, JOBS = 10, 5  # each comes with so many jobs
NEWS = 20  # of a job at work, between which its silence is measured
JOB = replace(DRAW, count=1, steps=10)  # a picture
COLUMNS = (
    "executor, slots",
    "50 jobs, s",
    "jobs a minute, first row = 1",
    "first and last visitor done, s",
    "overhead of a job, ms",
    "longest silence of a job at work, s",
    "from a stop to its end, s",
    "worker killed, other slot free, s",
    "worker killed, no other slot, s",
)


@dataclass
class Figures:
    """Of one executor, in seconds; None where it has no such case."""

    kind: str
    ends: Sequence[float]  # until each visitor's last job is done
    overhead: float
    silence: float
    stop: float
    deaths: tuple[float | None, float | None]  # with another slot free, and without one

    def row(self, first: Figures) -> str:
        """The row of the table, beside the first one."""
        rate = max(first.ends) / max(self.ends)
        cells = [self.kind, f"{max(self.ends):.1f}", f"{rate:.2f}"]
        cells.append(f"{min(self.ends):.1f}, {max(self.ends):.1f}")
        cells += [f"{1000 * self.overhead:.0f}", f"{self.silence:.2f}", f"{self.stop:.2f}"]
        cells += ["–" if death is None else f"{death:.1f}" for death in self.deaths]
        return f"| {' | '.join(cells)} |"


@contextmanager
def executor_of(kind: str, folder: Path) -> Iterator[Executor]:
    """An executor as the app makes it, with warm slots."""
    settings = Settings(
        work=folder,
        device="cpu",
        executor="ray" if kind.startswith("ray") else "local",
        slots=KINDS[kind],
        max_waiting=1000,
    )
    engine = Engine(settings)
    executor = Executor(slots_of(settings, lambda: engine), line_of(settings))
    try:
        executor.warm_up()
        yield executor
    finally:
        executor.close(patience=30)


def measure(kind: str, folder: Path) -> Figures:
    """All figures of one kind."""
    with executor_of(kind, folder) as executor:
        several = KINDS[kind] > 1
        alone = kind == "local, 1"  # its worker is this process
        return Figures(
            kind,
            crowd(executor, folder / "crowd"),
            overhead(executor, folder),
            *silence_and_stop(executor, folder / "stop"),
            (
                restart(executor, folder / "free", 0) if several else None,
                None if alone else restart(executor, folder / "busy", KINDS[kind] - 1),
            ),
        )


def crowd(executor: Executor, folder: Path) -> list[float]:
    """Seconds until each visitor's last job is done; all jobs are in line at once."""
    began = time.monotonic()
    visits = [
        [
            Visit(executor, f"{owner}-{job}", Task("draw", JOB, folder / f"{owner}-{job}"), owner)
            for job in range(JOBS)
        ]
        for owner in map(str, range(VISITORS))
    ]
    return [max(visit.ended().times[-1] - began for visit in own) for own in visits]


def overhead(executor: Executor, folder: Path) -> float:
    """Seconds of a job that is refused at once, since a file is missing; the median of 20."""
    order = replace(MERGE, picks=(SelectedFile(folder / "gone", "gone"), *MERGE.picks))

    def once() -> float:
        began = time.monotonic()
        with suppress(MergeError):
            list(executor.run("a", Task("merge", order, folder)))
        return time.monotonic() - began

    return median(once() for _ in range(20))


def silence_and_stop(executor: Executor, folder: Path) -> tuple[float, float]:
    """The longest time without news of a job that draws; and from a stop to its end."""
    visit = Visit(executor, "a", Task("draw", LONG, folder))
    visit.reach(lambda: len(visit.times) > NEWS)
    began = time.monotonic()
    executor.stop("a")
    visit.join()
    gaps = [after - before for before, after in itertools.pairwise(visit.times[:NEWS])]
    return max(gaps), time.monotonic() - began


def restart(executor: Executor, folder: Path, others: int) -> float:
    """Seconds from the death of a job's worker to the end of the job, a picture."""
    keep = [Visit(executor, f"o{n}", Task("draw", LONG, folder / f"o{n}")) for n in range(others)]
    for visit in keep:
        visit.reach(at_work(visit))
    visit = Visit(executor, "a", Task("draw", replace(JOB, steps=50), folder / "a"))
    visit.reach(at_work(visit))
    os.kill(worker_of(executor, "a"), signal.SIGKILL)
    began = time.monotonic()
    visit.ended()
    took = time.monotonic() - began
    for number, other in enumerate(keep):
        executor.stop(f"o{number}")
        other.join()
    return took


def main(kinds: Sequence[str]) -> None:
    """Print a row for every kind."""
    torch.set_num_threads(1)
    # One thread for the workers too; and Ray's would else let all other processes go first.
    os.environ.update(OMP_NUM_THREADS="1", RAY_worker_niceness="0")
    print(f"| {' | '.join(COLUMNS)} |\n|{' --- |' * len(COLUMNS)}", flush=True)
    first = None
    for kind in kinds or KINDS:
        with tempfile.TemporaryDirectory() as folder:
            figures = measure(kind, Path(folder))
        first = first or figures
        print(figures.row(first), flush=True)
    print(f"\n{machine()}; load of the machine {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main(sys.argv[1:])

"""What a refinement has done so far, in a folder: after Stop or a crash it goes on from there.

Everything that it draws has a seed of its own, and training keeps the state of its optimiser and of
its source of random numbers, so a refinement that was interrupted gives the same bytes as one that
was not. A folder may hold several refinements; each has a subfolder, named by all that its bytes
depend on.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from merging.calibration.plan import RefinePlan
from merging.calibration.refine_size import refine_cost
from merging.diffusion.base import Base
from merging.io.atomic_write import write_whole
from merging.version import __version__


class Checkpoint:
    """Named states on disk; with no folder nothing is kept."""

    def __init__(self, folder: Path | None) -> None:
        """The folder is made when it is first written to."""
        self.folder = folder

    def read(self, name: str) -> Any:
        """The state of this name: numbers, texts, tensors in lists and dicts; None without one."""
        file = self._file(name)
        if file is None or not file.is_file():
            return None
        return torch.load(file, map_location="cpu", weights_only=True)

    def write(self, name: str, state: Any) -> None:
        """Keep a state, in place of the last one of its name; never half a file."""
        if file := self._file(name):
            file.parent.mkdir(parents=True, exist_ok=True)
            buffer = io.BytesIO()
            torch.save(state, buffer)
            write_whole(file, buffer.getvalue())

    def kept(self, name: str, make: Callable[[], Any]) -> Any:
        """The state of this name, made and kept if there is none."""
        state = self.read(name)
        if state is None:
            state = make()
            self.write(name, state)
        return state

    def _file(self, name: str) -> Path | None:
        return self.folder / f"{name}.pt" if self.folder else None


def checkpoint_of(folder: Path | None, base: Base, plan: RefinePlan) -> Checkpoint:
    """The checkpoint of this refinement in a folder of several."""
    return Checkpoint(folder / _key(base, plan) if folder else None)


def _key(base: Base, plan: RefinePlan) -> str:
    """Hash of all that the refinement's bytes depend on."""
    said = (__version__, torch.__version__, base.fingerprint, str(base.device), str(base.dtype))
    asked = (plan.phrases, plan.prompts, plan.steps, plan.seed, plan.clip_skip)
    size = refine_cost(len(plan.phrases), 0, plan.steps)
    key = hashlib.sha256(repr((said, asked, size)).encode())
    for tensor in _tensors(plan):
        key.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return key.hexdigest()[:16]


def _tensors(plan: RefinePlan) -> Iterator[Tensor]:
    for deltas in (plan.start, *plan.deltas):
        for delta in deltas.values():
            yield from (delta.up, delta.down)
    for shifts in (plan.start_shifts, *plan.shifts):
        for shift in shifts.values():
            yield from shift.vectors().values()
    for word in plan.embeddings:
        yield word.vectors

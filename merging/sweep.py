"""What one pass over the model must know to hand a solver its rows; no model is named here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from merging.deltas import Delta
from merging.gram import RowStatistics
from merging.progress import Progress, Stop


@dataclass(frozen=True)
class RowSet:
    """Prompts, and the teacher under which they are run."""

    name: str
    prompts: tuple[str, ...]
    weights: tuple[float, ...]  # of each LoRA in this set's teacher; all 0 preserves the base
    omega: float = 1.0  # how much the set counts beside the others
    phrases: tuple[str, ...] = ()  # of each LoRA: the teacher is gated by them; () if it is not


@dataclass(frozen=True)
class Sweep:
    """The LoRAs, the layers to solve, and the rows to solve them on."""

    deltas: tuple[Mapping[str, Delta], ...]  # per LoRA: layer → change, all scales folded in
    targets: tuple[str, ...]  # layers to solve from activations
    fixed: Mapping[str, Delta]  # merged change of every other layer
    row_sets: tuple[RowSet, ...]  # none: the base weights are all that is asked for
    merged_inputs: bool  # False: X̃ = X (RegMean)
    rounds: int | None = None  # None: lockstep, the fixed point itself; k: the paper's iteration
    seed: int = 0


# (layer, base weight (out, in) in float64, its rows) → the merged change of the layer
SolveLayer = Callable[[str, Tensor, tuple[RowStatistics, ...]], Delta]


class Activations(Protocol):
    """Runs the sweep, calling ``solve`` for each target layer in forward order."""

    def __call__(self, sweep: Sweep, solve: SolveLayer, progress: Progress, stop: Stop, /) -> None:
        """Every target is solved once (each round, if there are rounds)."""
        ...

"""What one pass over the model must know to hand a solver its rows; no model is named here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor

from merging.adapter import Shift
from merging.embedding import Embedding
from merging.linalg.delta import Delta
from merging.linalg.row_statistics import RowStatistics
from merging.options import Padding, Tokens
from merging.runtime.phases import Phases
from merging.runtime.progress import Progress, Stop


@dataclass(frozen=True)
class RowSet:
    """Prompts, and the teacher under which they are run."""

    name: str
    prompts: tuple[str, ...]
    # of each LoRA, then of each composite, in this set's teacher; all 0 preserves the base
    weights: tuple[float, ...]
    omega: float = 1.0  # how much the set counts beside the others
    phrases: tuple[str, ...] = ()  # trigger phrases that its prompts say
    gated: bool = False  # the teacher is gated by them, one phrase per LoRA


@dataclass(frozen=True)
class Sweep:
    """The LoRAs, the layers to solve, and the rows to solve them on."""

    deltas: tuple[Mapping[str, Delta], ...]  # per LoRA: layer → change, all scales folded in
    targets: tuple[str, ...]  # layers to solve from activations
    fixed: Mapping[str, Delta]  # merged change of every other layer
    row_sets: tuple[RowSet, ...]  # none: the base weights are all that is asked for
    merged_inputs: bool  # False: X̃ = X (RegMean)
    residual: bool = False  # whether the solver asks for K_c (merging/linalg/gram.py)
    padding: Padding = "keep"
    tokens: Tokens = "all"
    rows: int | None = None  # most positions of a picture that count; None: all
    rounds: int | None = None  # None: lockstep, the fixed point itself; k: the paper's iteration
    seed: int = 0
    embeddings: tuple[Embedding, ...] = ()  # words that the prompts may say
    # per LoRA: layer or normalisation → what it adds to its vectors, at its strength
    shifts: tuple[Mapping[str, Shift], ...] = ()
    composites: tuple[Mapping[str, Delta], ...] = ()  # teachers.py; as ``deltas``
    composite_shifts: tuple[Mapping[str, Shift], ...] = ()  # one for each of them
    phases: Phases = field(default_factory=Phases)  # counts sampling, forward passes, solving

    @property
    def teachers(self) -> tuple[Mapping[str, Delta], ...]:
        """Whatever a row set gives a weight to: the LoRAs, then the composites."""
        return self.deltas + self.composites

    @property
    def teacher_shifts(self) -> tuple[Mapping[str, Shift], ...]:
        """Their shifts; none where no LoRA has any."""
        return self.shifts + self.composite_shifts


# (layer, base weight (out, in) in float64, its rows) → the merged change of the layer
SolveLayer = Callable[[str, Tensor, tuple[RowStatistics, ...]], Delta]


class Activations(Protocol):
    """Runs the sweep, calling ``solve`` for each target layer in forward order."""

    def __call__(self, sweep: Sweep, solve: SolveLayer, progress: Progress, stop: Stop, /) -> None:
        """Every target is solved once (each round, if there are rounds)."""
        ...

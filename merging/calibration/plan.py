"""The interface between the engine and a model that runs the calibration prompts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor

from merging.adapter import VectorDelta
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
    # of the LoRAs, then of the composites, in this set's teacher; all 0 preserves the base
    weights: tuple[float, ...]
    omega: float = 1.0  # ω_c: weight of the set among all sets
    phrases: tuple[str, ...] = ()  # trigger phrases in its prompts
    gated: bool = False  # whether the phrases, one per LoRA, gate the teacher

    @property
    def subject(self) -> str:
        """What its prompts are about, in a user's words."""
        if not any(self.weights):
            return "everything else"
        together = " together" if len(self.phrases) > 1 else ""
        return " and ".join(self.phrases) + together or self.name


@dataclass(frozen=True)
class Sweep:
    """The LoRAs, the layers to solve, and the rows to solve them on."""

    deltas: tuple[Mapping[str, Delta], ...]  # per LoRA: layer → change, all scales folded in
    targets: tuple[str, ...]  # layers to solve from activations
    fixed: Mapping[str, Delta]  # merged change of every other layer
    row_sets: tuple[RowSet, ...]  # none: the method needs only the base weights
    merged_inputs: bool  # False: X̃ = X (RegMean)
    residual: bool = False  # whether the solver needs K_c (merging/linalg/gram.py)
    padding: Padding = "keep"
    tokens: Tokens = "all"
    rows: int | None = None  # at most so many positions of a picture are used; None: all
    rounds: int | None = None  # None: lockstep, the fixed point itself; k: the paper's iteration
    seed: int = 0
    clip_skip: int = 1  # as A1111 counts: 2 leaves out the text encoder's last layer
    embeddings: tuple[Embedding, ...] = ()  # textual inversions that the prompts may use
    # per LoRA: layer or normalisation → change of its vectors, at the LoRA's strength
    shifts: tuple[Mapping[str, VectorDelta], ...] = ()
    composites: tuple[Mapping[str, Delta], ...] = ()  # teachers.py; as ``deltas``
    composite_shifts: tuple[Mapping[str, VectorDelta], ...] = ()  # one per composite
    phases: Phases = field(default_factory=Phases)  # times sampling, forward passes, solving

    @property
    def teachers(self) -> tuple[Mapping[str, Delta], ...]:
        """The changes that a row set has weights for: the LoRAs, then the composites."""
        return self.deltas + self.composites

    @property
    def teacher_shifts(self) -> tuple[Mapping[str, VectorDelta], ...]:
        """Their changes of vectors; empty where no LoRA has any."""
        return self.shifts + self.composite_shifts


@dataclass(frozen=True)
class RefinePlan:
    """A merge to be trained end to end (merging/diffusion/refine/training.py)."""

    names: tuple[str, ...]  # of the LoRAs
    phrases: tuple[str, ...]  # their trigger phrases
    prompts: tuple[tuple[str, ...], ...]  # calibration prompts of their own; () makes some
    deltas: tuple[Mapping[str, Delta], ...]  # per LoRA: layer → change, all scales folded in
    shifts: tuple[Mapping[str, VectorDelta], ...]  # per LoRA: of biases and normalisations
    start: Mapping[str, Delta]  # the merge to begin with
    start_shifts: Mapping[str, VectorDelta]  # stay as they are
    steps: int
    seed: int
    clip_skip: int = 1
    embeddings: tuple[Embedding, ...] = ()
    phases: Phases = field(default_factory=Phases)


@dataclass(frozen=True)
class Refined:
    """The trained merge, and sentences on it for the report."""

    layers: Mapping[str, Delta]
    notes: tuple[str, ...]


# (layer, base weight (out, in) in float64, its row sets) → the merged change of the layer
SolveLayer = Callable[[str, Tensor, tuple[RowStatistics, ...]], Delta]


class Activations(Protocol):
    """Runs the sweep, calling ``solve`` for each target layer in forward order."""

    def __call__(self, sweep: Sweep, solve: SolveLayer, progress: Progress, stop: Stop, /) -> None:
        """Solve every target once, or once per round."""
        ...


# Trains a merge end to end on the model.
Refiner = Callable[[RefinePlan, Progress, Stop], Refined]

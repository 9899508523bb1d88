"""Two base models side by side: the old one with the LoRA, the new one with what is carried.

Both run the same samples, each in a greenlet of its own that pauses at every layer of the LoRA, as
in merging/diffusion/lockstep.py: once all have come to a layer, its rows in both are known, it is
solved, and the new base goes on with the solution. So the carried layers are solved for the inputs
that they will have.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import torch
from greenlet import greenlet
from torch import Tensor

from merging.calibration.plan import SolveLayer, Sweep
from merging.diffusion.base import Base
from merging.diffusion.calibration_samples import Sample
from merging.diffusion.layer_inputs import shared_input
from merging.diffusion.layer_ops import Layer, flat_weight, input_rows, output_change
from merging.diffusion.lockstep import counted_rows, run_model
from merging.linalg.delta import Delta
from merging.linalg.row_statistics import RowStatistics
from merging.runtime.progress import Progress, Stop, check


@dataclass
class _Pass:
    """One batch in one of the bases."""

    samples: Sequence[Sample]
    base: Base
    deltas: dict[str, Delta]  # what its layers add; of the new base, as far as they are solved
    # of the layer it is at: the rows that count, and which these are (samples, rows)
    rows: Tensor = field(default_factory=lambda: torch.empty(0))
    counted: Tensor = field(default_factory=lambda: torch.empty(0))

    @property
    def row_sets(self) -> Tensor:
        """The row set of every row."""
        of_samples = torch.tensor([sample.row_set for sample in self.samples])
        return of_samples.repeat_interleave(self.counted.sum(dim=1)).to(self.rows.device)


@dataclass
class TwoBases:
    """One pass of all samples through both bases; the sweep has one LoRA.

    ``results`` begins with the LoRA's own changes, and has the solutions afterwards; layers that
    are no targets, or that the pass does not come to, stay as they are.
    """

    old: Base
    new: Base
    sweep: Sweep
    solve: SolveLayer
    results: dict[str, Delta]
    progress: Progress
    stop: Stop

    def __post_init__(self) -> None:
        """Set up the state of the pass."""
        self._passes: dict[greenlet, _Pass] = {}
        self._sums: dict[str, tuple[RowStatistics, ...]] = {}
        self._solved: set[str] = set()
        self._inputs_left = [shared_input(layer) for layer in self.sweep.targets]

    def run(self, batches: Sequence[Sequence[Sample]]) -> None:
        """Run all batches in both bases from layer to layer, and solve in between."""
        (lora,) = self.sweep.deltas
        for samples in batches:
            for base, deltas in ((self.old, dict(lora)), (self.new, self.results)):
                self._passes[greenlet(self._forward)] = _Pass(samples, base, deltas)
        with torch.no_grad(), self._hooked():
            places = [one.switch() for one in self._passes]
            while not all(one.dead for one in self._passes):
                self._solve_layer(places)
                places = [one.switch() for one in self._passes]

    @property
    def missed(self) -> list[str]:
        """The targets that the pass has not come to: clip skip leaves them out."""
        return [layer for layer in self.sweep.targets if layer not in self._solved]

    def _forward(self) -> None:
        """One batch through one base; it pauses in ``_on_layer``."""
        one = self._passes[greenlet.getcurrent()]
        run_model(one.base, one.samples, 1, self.sweep.targets)

    @contextmanager
    def _hooked(self) -> Iterator[None]:
        """Call ``_on_layer`` at every layer of the LoRA; hooks are always removed."""
        bases = [self.old, *([self.new] if self.new is not self.old else [])]
        with ExitStack() as undo:
            for base, name in product(bases, self.results):
                undo.callback(base.layers[name].register_forward_hook(self._hook(name)).remove)
            yield

    def _hook(self, name: str) -> Callable[[Layer, Any, Tensor], Tensor]:
        return lambda layer, inputs, output: self._on_layer(name, layer, inputs[0], output)

    def _on_layer(self, name: str, layer: Layer, x: Tensor, output: Tensor) -> Tensor:
        """Hold the batch's rows, wait for the solution, and add it."""
        one = self._passes[greenlet.getcurrent()]
        if name in self.sweep.targets:
            rows = input_rows(layer, x).to("cpu" if x.device.type == "mps" else x.device)
            one.counted = counted_rows(name, one.samples, rows.shape[1], self.sweep.rows)
            one.rows = rows[one.counted.to(rows.device)]
            greenlet.getcurrent().parent.switch(name)
        return output + output_change(layer, x, one.deltas[name].to(x.device, x.dtype))

    def _solve_layer(self, places: Sequence[str]) -> None:
        """Solve the layer at which all passes have stopped."""
        check(self.stop)
        (layer,) = set(places)
        total, done = len(self.sweep.targets), len(self._solved)
        self.progress(done / total, f"layer {done + 1} of {total}")
        key = shared_input(layer)
        if key not in self._sums:
            self._sums[key] = self._row_statistics()
        weight = flat_weight(self.new.layers[layer])
        self.results[layer] = self.solve(layer, weight, self._sums[key])
        self._solved.add(layer)
        self._inputs_left.remove(key)
        if key not in self._inputs_left:
            del self._sums[key]

    def _row_statistics(self) -> tuple[RowStatistics, ...]:
        """The rows of both bases, by row set."""
        sets = tuple(
            RowStatistics(row_set.name, row_set.omega, constant=row_set.weights)
            for row_set in self.sweep.row_sets
        )
        passes = list(self._passes.values())
        for old, new in zip(passes[::2], passes[1::2], strict=True):
            for index in old.row_sets.unique().tolist():
                mask = old.row_sets == index
                sets[index].add(old.rows[mask], new.rows[mask])
        return sets

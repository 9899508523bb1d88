"""Every teacher and the merged model side by side, one doubled batch through the whole network.

The first half of the batch is run by the teachers (row by row, each LoRA at its weight), the
second half holds the same samples in the merged model. When the pass reaches a target layer, X
(teachers) and X̃ (merged) are both at hand: their products are summed, the layer is solved, and the
pass goes on with the merged weight. Shallow layers are final when deeper ones are solved, so one
pass is the fixed point that the paper's rounds approach (arXiv:2411.15231).

Samples that do not fit into one batch run as several, each in a greenlet that pauses at every
target layer until all of them have added their rows; only live activations wait.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from greenlet import greenlet
from torch import Tensor

from merging.calibration.plan import SolveLayer, Sweep
from merging.diffusion.base import Base
from merging.diffusion.calibration_samples import Sample, gate_of
from merging.diffusion.gate import Gate, add_gated
from merging.diffusion.layer_inputs import needs_latents, reads_text, shared_input
from merging.diffusion.layer_ops import (
    Layer,
    Module,
    change,
    flat_weight,
    input_rows,
    output_rows,
)
from merging.diffusion.tokens import text_ids
from merging.linalg.delta import Delta, total
from merging.linalg.row_statistics import RowStatistics
from merging.runtime.progress import Progress, Stop, check


@dataclass
class _Crew:
    """The samples of one batch, and the inputs whose rows it has already counted."""

    samples: Sequence[Sample]
    gate: Gate  # each LoRA's weight in the teachers, row by row
    counted: set[str] = field(default_factory=set)


@dataclass
class Lockstep:
    """One pass of all samples through the model.

    ``merged`` is what the second half of the batch runs with; None leaves that half out, and
    X̃ = X. ``results`` gets each layer's solution: the same mapping as ``merged`` makes the pass
    a lockstep, another one makes it a round of the paper's iteration.
    """

    base: Base
    sweep: Sweep
    solve: SolveLayer
    merged: Mapping[str, Delta] | None
    results: dict[str, Delta]
    progress: Progress
    stop: Stop

    def __post_init__(self) -> None:
        """Where the pass keeps its books."""
        self._crews: dict[greenlet, _Crew] = {}
        self._sums: dict[str, tuple[RowStatistics, ...]] = {}
        self._energies: dict[str, Tensor] = {}  # layer → ‖X_c W0ᵀ‖² of every row set
        self._moved: dict[tuple[str, int], Delta] = {}
        where = self.base.device, self.base.dtype
        each = (*self.sweep.teacher_shifts, total(self.sweep.shifts))  # teachers', and the merge's
        self._shifts = [{name: own.to(*where) for name, own in one.items()} for one in each]
        self._waiting = [shared_input(layer) for layer in self.sweep.targets]
        self._solved = 0

    def run(self, batches: Sequence[Sequence[Sample]]) -> None:
        """Take all batches from target layer to target layer, and solve in between."""
        touched = {*self.sweep.fixed, *self.sweep.targets}
        crews = [greenlet(self._forward) for _ in batches]
        # no_grad is entered once, outside: entered inside interleaved passes it would
        # restore another pass's state.
        hooked = _hooked(self.base, touched, self._reached)
        shifted = _hooked(self.base, {*self._shifts[-1]}, self._shifted)  # after what is measured
        with torch.no_grad(), hooked, shifted:
            places = [crew.switch(batch) for crew, batch in zip(crews, batches, strict=True)]
            while not all(crew.dead for crew in crews):
                self._settle(places)
                places = [crew.switch() for crew in crews]
        missing = [layer for layer in self.sweep.targets if layer not in self.results]
        if missing:
            raise RuntimeError(f"the pass never reached {missing[0]} ({len(missing)} layers)")

    def _forward(self, batch: Sequence[Sample]) -> None:
        """One batch through the network; its hooks pause in ``_reached``."""
        self._crews[greenlet.getcurrent()] = _Crew(batch, gate_of(batch))
        streams = 1 if self.merged is None else 2
        run_model(self.base, batch, streams, self.sweep.targets)

    def _reached(self, name: str, layer: Layer, x: Tensor, output: Tensor) -> Tensor:
        """A batch has come to a layer: count its rows, wait for the solution, go on with it."""
        here = greenlet.getcurrent()
        crew = self._crews[here]
        if name in self.sweep.targets:
            self._count(name, layer, x, crew)
            self._measure(name, layer, output, crew)
            here.parent.switch(name)
        return self._changed(name, layer, x, output, crew)

    def _settle(self, places: Sequence[str]) -> None:
        """All batches wait at the same layer: solve it."""
        check(self.stop)
        (layer,) = set(places)
        self._moved.clear()  # every batch has passed the layers before this one
        total = len(self.sweep.targets)
        self.progress(self._solved / total, f"layer {self._solved + 1} of {total}")
        key = shared_input(layer)
        rows = self._sums[key]
        for each, energy in zip(rows, self._energies.pop(layer).tolist(), strict=True):
            each.base_energy = energy
        solution = self.solve(layer, flat_weight(self.base.layers[layer]), rows)
        self.results[layer] = solution
        self._solved += 1
        self._waiting.remove(key)
        if key not in self._waiting:
            del self._sums[key]

    def _count(self, name: str, layer: Layer, x: Tensor, crew: _Crew) -> None:
        """Add this batch's rows, once for all layers that share the input."""
        key = shared_input(name)
        if key in crew.counted:
            return
        crew.counted.add(key)
        rows = input_rows(layer, x).to("cpu" if x.device.type == "mps" else x.device)
        teacher, merged = rows[: len(crew.samples)], rows[-len(crew.samples) :]
        sums = self._sums.setdefault(key, self._no_rows())
        weights = crew.gate.rows(name, rows.shape[1]).to(rows.device)
        counted = counted_rows(name, crew.samples, rows.shape[1], self.sweep.rows)
        sets = torch.tensor([sample.row_set for sample in crew.samples])
        for index in sets.unique().tolist():
            own = (counted & (sets == index)[:, None]).to(rows.device)  # (samples, rows)
            given = None if sums[index].constant else weights[own]
            sums[index].add(teacher[own], merged[own], given)

    def _measure(self, name: str, layer: Layer, output: Tensor, crew: _Crew) -> None:
        """Add this batch to ‖X_c W0ᵀ‖²; the layer itself has just multiplied it out."""
        given = output_rows(layer, output[: len(crew.samples)])
        counted = counted_rows(name, crew.samples, given.shape[1], self.sweep.rows)
        chosen = given[counted.to(given.device)].float()
        chosen = chosen if layer.bias is None else chosen - layer.bias.float()
        sizes = chosen.square().sum(dim=1).cpu().double()
        sets = torch.tensor([sample.row_set for sample in crew.samples])
        sums = self._energies.setdefault(
            name, torch.zeros(len(self.sweep.row_sets), dtype=torch.float64)
        )
        sums.index_add_(0, sets[counted.nonzero()[:, 0]], sizes)

    def _no_rows(self) -> tuple[RowStatistics, ...]:
        """Empty sums, one for each row set."""
        return tuple(
            RowStatistics(
                each.name,
                each.omega,
                constant=None if each.gated else each.weights,
                still=self.merged is None,
                residual=self.sweep.residual,
            )
            for each in self.sweep.row_sets
        )

    def _changed(self, name: str, layer: Layer, x: Tensor, output: Tensor, crew: _Crew) -> Tensor:
        """The layer's output with each stream's own change added, in place."""
        count = len(crew.samples)
        own = [
            self._on_device(name, i, deltas[name]) if name in deltas else None
            for i, deltas in enumerate(self.sweep.teachers)
        ]
        add_gated(name, layer, x[:count], output[:count], crew.gate, own)
        if self.merged is None:
            return output
        delta = self._on_device(name, -1, self.merged[name])
        output[count:].add_(change(layer, x[count:], delta))
        return output

    def _shifted(self, name: str, module: Module, x: Tensor, output: Tensor) -> Tensor:
        """The module's output with each stream's own shift added, in place."""
        crew = self._crews[greenlet.getcurrent()]
        count = len(crew.samples)
        *own, merged = (each.get(name) for each in self._shifts)
        add_gated(name, module, x[:count], output[:count], crew.gate, own)
        if self.merged is not None and merged is not None:
            output[count:].add_(change(module, x[count:], merged))
        return output

    def _on_device(self, name: str, source: int, delta: Delta) -> Delta:
        """The change where the model runs, moved once for all batches."""
        key = (name, source)
        if key not in self._moved:
            self._moved[key] = delta.to(self.base.device, self.base.dtype)
        return self._moved[key]


def counted_rows(name: str, samples: Sequence[Sample], rows: int, most: int | None) -> Tensor:
    """Which rows of the layer's input count: (samples, rows) of bool.

    Of a picture at most so many positions, each sample's drawn by its own seed: neighbours look
    alike, and products of all of them cost more than the model.
    """
    if reads_text(name):
        return torch.stack([sample.counted for sample in samples])
    if most is None or rows <= most:
        return torch.ones(len(samples), rows, dtype=torch.bool)
    chosen = torch.zeros(len(samples), rows, dtype=torch.bool)
    for own, sample in zip(chosen, samples, strict=True):
        generator = torch.Generator().manual_seed(sample.seed)
        own[torch.randperm(rows, generator=generator)[:most]] = True
    return chosen


def run_model(base: Base, batch: Sequence[Sample], streams: int, targets: Sequence[str]) -> None:
    """Text encoder, then UNet (or only its text K and V), each sample ``streams`` times."""
    ids = text_ids(base, [sample.prompt for sample in batch])
    states = base.pipeline.text_encoder(ids.repeat(streams, 1))[0]
    if not needs_latents(targets):
        for layer in (name for name in targets if shared_input(name) == "text states"):
            base.layers[layer](states)
        return
    latents = torch.stack([sample.latent for sample in batch if sample.latent is not None])
    times = torch.tensor([sample.timestep for sample in batch], device=base.device)
    base.pipeline.unet(
        latents.repeat(streams, 1, 1, 1), times.repeat(streams), encoder_hidden_states=states
    )


@contextmanager
def _hooked(
    base: Base, names: set[str], reached: Callable[[str, Any, Tensor, Tensor], Tensor]
) -> Iterator[None]:
    """Let ``reached`` replace each named module's output; no hook is left behind, even on error."""

    def hook(name: str) -> Callable:
        return lambda module, inputs, output: reached(name, module, inputs[0], output)

    with ExitStack() as undo:
        for name in names:
            undo.callback(base.modules[name].register_forward_hook(hook(name)).remove)
        yield

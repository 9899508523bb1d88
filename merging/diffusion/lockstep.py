"""Teachers and merged model side by side: one doubled batch through the whole network.

The first half of the batch runs under the teachers, the second half has the same samples in the
merged model. At a target layer both inputs are known, X (teachers) and X̃ (merged): their rows are
added to the statistics, the layer is solved, and the pass goes on with the merged weight. Earlier
layers are final when later ones are solved, so one pass is the fixed point that the paper's rounds
approach (arXiv:2411.15231).

Samples that do not fit into one batch run as several. Every batch has a greenlet that pauses at
every target layer until all batches have added their rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
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
    flat_weight,
    input_rows,
    output_change,
    output_rows,
)
from merging.diffusion.parking import Parking
from merging.diffusion.tokens import text_ids
from merging.linalg.delta import Delta, sum_vector_deltas
from merging.linalg.row_statistics import RowStatistics
from merging.runtime.progress import Progress, Stop, check


@dataclass
class _Batch:
    """The samples of one forward pass."""

    samples: Sequence[Sample]
    gate: Gate  # weights of the LoRAs in the teachers
    counted: set[str] = field(default_factory=set)  # inputs whose rows have been added


@dataclass
class Lockstep:
    """One pass of all samples through the model.

    ``merged`` has the changes of the merged model; None leaves its half of the batch out, and
    X̃ = X. Solutions are written to ``results``. If that is the same mapping as ``merged``, the pass
    is a lockstep, otherwise a round of the paper's iteration.
    """

    base: Base
    sweep: Sweep
    solve: SolveLayer
    merged: Mapping[str, Delta] | None
    results: dict[str, Delta]
    progress: Progress
    stop: Stop
    parking: Parking | None = None  # where batches that wait are; None: on the device

    def __post_init__(self) -> None:
        """Set up the state of the pass."""
        self._batches: dict[greenlet, _Batch] = {}
        self._sums: dict[str, tuple[RowStatistics, ...]] = {}
        self._energies: dict[str, Tensor] = {}  # layer → ‖X_c W0ᵀ‖² of every row set
        self._device_deltas: dict[tuple[str, int], Delta] = {}
        place = self.base.device, self.base.dtype
        # of the teachers, and last of the merged model
        models = (*self.sweep.teacher_shifts, sum_vector_deltas(self.sweep.shifts))
        self._shifts = [{name: s.to(*place) for name, s in shifts.items()} for shifts in models]
        self._inputs_left = [shared_input(layer) for layer in self.sweep.targets]
        self._solved_count = 0

    def run(self, batches: Sequence[Sequence[Sample]]) -> None:
        """Run all batches from target layer to target layer, and solve in between."""
        layers = {*self.sweep.fixed, *self.sweep.targets}
        passes = [greenlet(self._forward) for _ in batches]
        # no_grad is entered once, out here: inside interleaved passes, leaving it would restore
        # the state of another pass.
        layer_hooks = _hooked(self.base, layers, self._on_layer)
        # Registered later, so that base energies are measured before shifts are added.
        shift_hooks = _hooked(self.base, {*self._shifts[-1]}, self._apply_shifts)
        with torch.no_grad(), layer_hooks, shift_hooks, self.parking or nullcontext():
            stops = [one.switch(batch) for one, batch in zip(passes, batches, strict=True)]
            while not all(one.dead for one in passes):
                self._solve_layer(stops)
                stops = [one.switch() for one in passes]
        missing = [layer for layer in self.sweep.targets if layer not in self.results]
        if missing:
            raise RuntimeError(f"the pass never reached {missing[0]} ({len(missing)} layers)")

    def _forward(self, samples: Sequence[Sample]) -> None:
        """One batch through the network; it pauses in ``_on_layer``."""
        self._batches[greenlet.getcurrent()] = _Batch(samples, gate_of(samples))
        streams = 1 if self.merged is None else 2
        self._note(greenlet.getcurrent())
        run_model(self.base, samples, streams, self.sweep.targets)
        self._note(None)

    def _note(self, owner: greenlet | None) -> None:
        """Say whose the tensors are that are made from now on."""
        if self.parking:
            self.parking.owner = owner

    def _wait(self, layer: str) -> None:
        """Let the other batches go on to this layer, and wait until it is solved."""
        current = greenlet.getcurrent()
        if self.parking:
            self.parking.park(current)
        current.parent.switch(layer)
        if self.parking:
            self.parking.fetch(current)

    def _on_layer(self, name: str, layer: Layer, x: Tensor, output: Tensor) -> Tensor:
        """Hook of a layer: add the batch's rows, wait for the solution, apply it."""
        current = greenlet.getcurrent()
        batch = self._batches[current]
        self._note(None)  # sums and changes are of all batches
        if name in self.sweep.targets:
            self._add_rows(name, layer, x, batch)
            self._add_energy(name, layer, output, batch)
            self._wait(name)
        output = self._apply_changes(name, layer, x, output, batch)
        self._note(current)
        return output

    def _solve_layer(self, stops: Sequence[str]) -> None:
        """Solve the layer at which all batches have stopped."""
        check(self.stop)
        (layer,) = set(stops)
        self._device_deltas.clear()  # every batch has passed the earlier layers
        total = len(self.sweep.targets)
        self.progress(self._solved_count / total, f"layer {self._solved_count + 1} of {total}")
        key = shared_input(layer)
        rows = self._sums[key]
        for row_set, energy in zip(rows, self._energies.pop(layer).tolist(), strict=True):
            row_set.base_energy = energy
        solution = self.solve(layer, flat_weight(self.base.layers[layer]), rows)
        self.results[layer] = solution
        self._solved_count += 1
        self._inputs_left.remove(key)
        if key not in self._inputs_left:
            del self._sums[key]

    def _add_rows(self, name: str, layer: Layer, x: Tensor, batch: _Batch) -> None:
        """Add this batch's rows, once for all layers that share the input."""
        key = shared_input(name)
        if key in batch.counted:
            return
        batch.counted.add(key)
        rows = input_rows(layer, x).to("cpu" if x.device.type == "mps" else x.device)
        teacher, merged = rows[: len(batch.samples)], rows[-len(batch.samples) :]
        sums = self._sums.setdefault(key, self._empty_statistics())
        weights = batch.gate.rows(name, rows.shape[1]).to(rows.device)
        counted = counted_rows(name, batch.samples, rows.shape[1], self.sweep.rows)
        sets = torch.tensor([sample.row_set for sample in batch.samples])
        for index in sets.unique().tolist():
            mask = (counted & (sets == index)[:, None]).to(rows.device)  # (samples, rows)
            row_weights = None if sums[index].constant else weights[mask]
            sums[index].add(teacher[mask], merged[mask], row_weights)

    def _add_energy(self, name: str, layer: Layer, output: Tensor, batch: _Batch) -> None:
        """Add this batch to ‖X_c W0ᵀ‖², from the output of the layer without its bias."""
        outputs = output_rows(layer, output[: len(batch.samples)])
        counted = counted_rows(name, batch.samples, outputs.shape[1], self.sweep.rows)
        products = outputs[counted.to(outputs.device)].float()
        products = products if layer.bias is None else products - layer.bias.float()
        energies = products.square().sum(dim=1).cpu().double()
        sets = torch.tensor([sample.row_set for sample in batch.samples])
        sums = self._energies.setdefault(
            name, torch.zeros(len(self.sweep.row_sets), dtype=torch.float64)
        )
        sums.index_add_(0, sets[counted.nonzero()[:, 0]], energies)

    def _empty_statistics(self) -> tuple[RowStatistics, ...]:
        """Empty statistics, one per row set."""
        return tuple(
            RowStatistics(
                row_set.name,
                row_set.omega,
                constant=None if row_set.gated else row_set.weights,
                inputs_equal=self.merged is None,
                residual=self.sweep.residual,
            )
            for row_set in self.sweep.row_sets
        )

    def _apply_changes(
        self, name: str, layer: Layer, x: Tensor, output: Tensor, batch: _Batch
    ) -> Tensor:
        """Add the teachers' changes to the first half of the output, the merge's to the second."""
        count = len(batch.samples)
        teachers = [
            self._on_device(name, i, deltas[name]) if name in deltas else None
            for i, deltas in enumerate(self.sweep.teachers)
        ]
        add_gated(name, layer, x[:count], output[:count], batch.gate, teachers)
        if self.merged is None:
            return output
        delta = self._on_device(name, -1, self.merged[name])
        output[count:].add_(output_change(layer, x[count:], delta))
        return output

    def _apply_shifts(self, name: str, module: Module, x: Tensor, output: Tensor) -> Tensor:
        """The same for changes of biases and normalisations."""
        batch = self._batches[greenlet.getcurrent()]
        count = len(batch.samples)
        *teachers, merged = (shifts.get(name) for shifts in self._shifts)
        add_gated(name, module, x[:count], output[:count], batch.gate, teachers)
        if self.merged is not None and merged is not None:
            output[count:].add_(output_change(module, x[count:], merged))
        return output

    def _on_device(self, name: str, source: int, delta: Delta) -> Delta:
        """The change on the model's device, moved there once for all batches."""
        key = (name, source)
        if key not in self._device_deltas:
            self._device_deltas[key] = delta.to(self.base.device, self.base.dtype)
        return self._device_deltas[key]


def counted_rows(name: str, samples: Sequence[Sample], rows: int, most: int | None) -> Tensor:
    """Which rows of the layer's input count: (samples, rows) of bool.

    Of a picture at most ``most`` positions, drawn by the sample's seed: neighbours are similar, and
    products of all of them take more time than the model.
    """
    if reads_text(name):
        return torch.stack([sample.counted for sample in samples])
    if most is None or rows <= most:
        return torch.ones(len(samples), rows, dtype=torch.bool)
    masks = torch.zeros(len(samples), rows, dtype=torch.bool)
    for mask, sample in zip(masks, samples, strict=True):
        generator = torch.Generator().manual_seed(sample.seed)
        mask[torch.randperm(rows, generator=generator)[:most]] = True
    return masks


def run_model(base: Base, batch: Sequence[Sample], streams: int, targets: Sequence[str]) -> None:
    """Text encoder, then UNet (or only its text K and V), every sample ``streams`` times."""
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
    base: Base, names: set[str], replace_output: Callable[[str, Any, Tensor, Tensor], Tensor]
) -> Iterator[None]:
    """Let ``replace_output`` replace the named modules' outputs; hooks are always removed."""

    def hook(name: str) -> Callable:
        return lambda module, inputs, output: replace_output(name, module, inputs[0], output)

    with ExitStack() as undo:
        for name in names:
            undo.callback(base.modules[name].register_forward_hook(hook(name)).remove)
        yield

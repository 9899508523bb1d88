"""From LoRAs to a pack, and what smaller packs would lose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import sqrt
from pathlib import Path

import torch

from merging.adapter import Adapter
from merging.errors import MergeError
from merging.linalg.delta import Delta, scaled_delta, sum_deltas
from merging.packs.pack_file import write_pack
from merging.packs.packed_layer import LayerOfLoras, PackedLayer
from merging.runtime.progress import Progress, silent

KEEPS = (0.999, 0.99, 0.95, 0.9)  # shares of the energy, in the table of trade-offs


@dataclass
class Tally:
    """Sums over the layers of a pack."""

    keep: float  # share of every layer's energy
    numbers: int = 0  # in the layers of the pack
    apart: int = 0  # if every LoRA were cut by itself
    own: int = 0  # in the LoRAs' own factors, at their real ranks
    whole: list[float] = field(default_factory=list)  # ‖Δ‖² of every LoRA
    lost: list[float] = field(default_factory=list)  # ‖Δ' − Δ‖² of every LoRA

    @property
    def errors(self) -> list[float]:
        """‖Δ' − Δ‖ / ‖Δ‖ of every LoRA, over all layers."""
        pairs = zip(self.lost, self.whole, strict=True)
        return [sqrt(lost / whole) if whole else 0.0 for lost, whole in pairs]

    def add(self, layer: LayerOfLoras, packed: PackedLayer) -> None:
        """Count one more layer."""
        self.numbers += packed.numbers
        self.apart += layer.apart(self.keep).numbers
        self.own += layer.apart().numbers
        kept = [packed.delta(place) for place in range(len(layer.deltas))]
        losses = [_distance(*pair) for pair in zip(layer.deltas, kept, strict=True)]
        self.whole = _sums(self.whole, [_energy(delta) for delta in layer.deltas])
        self.lost = _sums(self.lost, losses)


@dataclass(frozen=True)
class Packed:
    """A pack that was written, and what smaller ones would have been."""

    path: Path
    bytes: int
    layers: int
    tally: Tally
    trade_offs: Sequence[Tally]


def pack(
    adapters: Sequence[Adapter],
    path: Path,
    dtype: torch.dtype,
    keep: float = 1.0,
    progress: Progress = silent,
    trade_offs: Sequence[float] = KEEPS,
) -> Packed:
    """Write the LoRAs of one base into a pack.

    ``keep`` is the share of every layer's energy that is kept; every LoRA counts alike, whatever
    its size. ``trade_offs`` are other shares, to count what they would give. Raises MergeError for
    fewer than two, for two of one name, for LoRAs of different bases, and if the file cannot be
    written.
    """
    _check(adapters)
    norms = [sqrt(sum(layer.energy for layer in one.layers.values())) for one in adapters]
    weights = [1 / norm if norm else 0.0 for norm in norms]
    names = list(dict.fromkeys(layer for adapter in adapters for layer in adapter.layers))
    tally, others = Tally(keep), [Tally(share) for share in trade_offs]
    layers: dict[str, PackedLayer] = {}
    for done, name in enumerate(names):
        progress(done / len(names), f"packing, layer {done + 1} of {len(names)}")
        layer = LayerOfLoras([_delta(adapter, name) for adapter in adapters], weights)
        if layer.present:
            layers[name] = layer.packed(keep).to(dtype)
            tally.add(layer, layers[name])
            for other in others:
                other.add(layer, layer.packed(other.keep))
    size = write_pack(adapters, layers, tally.errors, path)
    progress(1.0, "packed")
    return Packed(path, size, len(layers), tally, others)


def _check(adapters: Sequence[Adapter]) -> None:
    names = [adapter.name for adapter in adapters]
    if len(names) < 2:
        raise MergeError("A pack holds several LoRAs: name at least two files.")
    if repeated := [name for name in names if names.count(name) > 1]:
        raise MergeError(f"Two of the LoRAs are called {repeated[0]}; rename one of the files.")
    bases = {adapter.base: adapter.name for adapter in adapters}
    if len(bases) > 1:
        (one, first), (other, second), *_ = bases.items()
        raise MergeError(
            f"{first} is for {one} and {second} for {other}; a pack holds LoRAs of one base."
        )


def _delta(adapter: Adapter, name: str) -> Delta | None:
    return scaled_delta(adapter.layers[name], 1.0) if name in adapter.layers else None


def _sums(totals: Sequence[float], values: Sequence[float]) -> list[float]:
    return [a + b for a, b in zip(totals or [0.0] * len(values), values, strict=True)]


def _energy(delta: Delta | None) -> float:
    return 0.0 if delta is None else delta.norm() ** 2


def _distance(delta: Delta | None, other: Delta | None) -> float:
    """‖Δ − Δ'‖²; None is no change."""
    if delta is None or other is None:
        return _energy(delta)
    return sum_deltas([delta, other], [1.0, -1.0]).norm() ** 2

"""Factors as a file needs them: one alpha for all layers, and no value lost to half precision."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from merging.adapter import Adapter, LoraLayer
from merging.errors import MergeError

MAX_LOSS = 0.01  # of a layer's change; rounding alone costs 0.0006 in fp16 and 0.005 in bf16
NEGLIGIBLE = 1e-3  # of the strongest layer's change: losses below MAX_LOSS of this are let pass
UNLIKE = 4  # halves that differ by less than 2⁸ are left alone, as any trainer leaves them


@dataclass(frozen=True)
class Pair:
    """Stored factors, (out, rank) and (rank, in), in the file's dtype."""

    up: Tensor
    down: Tensor

    @property
    def rank(self) -> int:
        """Inner dimension of the factors."""
        return self.down.shape[0]


def common_rank(adapter: Adapter) -> int:
    """The rank that most layers have, the larger one on a tie: the alpha of the whole file."""
    counts = Counter(layer.rank for layer in adapter.layers.values())
    return max(counts, key=lambda rank: (counts[rank], rank))


def stored(adapter: Adapter, alpha: float | None, dtype: torch.dtype) -> dict[str, Pair]:
    """Every layer's factors under one alpha (None: under its own rank); zero layers are left out.

    Raises MergeError if a layer does not survive the dtype, or nothing is left.
    """
    pairs = {
        name: balanced(layer, float(layer.rank) if alpha is None else alpha)
        for name, layer in adapter.layers.items()
    }
    strongest = max(map(_size, pairs.values()), default=0.0)
    kept = {name: _cast(adapter.name, name, pair, dtype, strongest) for name, pair in pairs.items()}
    kept = {name: pair for name, pair in kept.items() if pair.up.any() and pair.down.any()}
    if not kept:
        raise MergeError(f"{adapter.name} changes nothing: all of its layers are zero.")
    return kept


def balanced(layer: LoraLayer, alpha: float) -> Pair:
    """float64 factors whose product is the layer's change under another alpha.

    Where the two halves of a rank-one part differ much in size they are brought together, by a
    power of two; the others stay as they are, so that a half-precision file keeps its very bits.
    """
    gain = layer.scale / replace(layer, alpha=alpha).scale
    up, down = gain * layer.up.detach().double(), layer.down.detach().double()
    ratio = down.norm(dim=1) / up.norm(dim=0)  # (rank,)
    usable = ratio.isfinite() & (ratio > 0)
    steps = torch.where(usable, ratio.log2().div(2).round(), 0.0)
    root = torch.where(steps.abs() < UNLIKE, 0.0, steps).exp2()
    return Pair(up * root, down / root[:, None])


def _size(pair: Pair) -> float:
    return float(pair.up.norm() * pair.down.norm())


def whole(adapter: Adapter, dtype: torch.dtype) -> dict[str, Tensor]:
    """Every layer's Δ (out, in) itself; zero layers are left out. Raises as `stored` does."""
    pairs = {name: balanced(layer, float(layer.rank)) for name, layer in adapter.layers.items()}
    strongest = max(map(_size, pairs.values()), default=0.0)
    deltas = {
        name: _dense(adapter.name, name, pair, dtype, strongest) for name, pair in pairs.items()
    }
    found = {name: delta for name, delta in deltas.items() if delta.any()}
    if not found:
        raise MergeError(f"{adapter.name} changes nothing: all of its layers are zero.")
    return found


def _dense(title: str, name: str, pair: Pair, dtype: torch.dtype, strongest: float) -> Tensor:
    """The pair's product in the file's dtype; MergeError if too much of it vanishes there."""
    delta = (pair.up @ pair.down).cpu()
    cast = delta.to(dtype)
    loss = (cast.double() - delta).norm()
    if not loss <= MAX_LOSS * max(float(delta.norm()), NEGLIGIBLE * strongest):
        raise _lossy(title, name, dtype)
    return cast


def cast(title: str, name: str, vector: Tensor, dtype: torch.dtype) -> Tensor:
    """A vector in the file's dtype; MergeError if too much of it vanishes there."""
    found = vector.to("cpu", dtype)
    wanted = vector.cpu().double()
    if not (found.double() - wanted).norm() <= MAX_LOSS * wanted.norm():
        raise _lossy(title, name, dtype)
    return found


def _cast(title: str, name: str, pair: Pair, dtype: torch.dtype, strongest: float) -> Pair:
    """The pair in the file's dtype; MergeError if values overflow it or too much vanishes in it."""
    cast = Pair(pair.up.to("cpu", dtype), pair.down.to("cpu", dtype))
    up, down = cast.up.double().cpu(), cast.down.double()
    loss = (up - pair.up.cpu()).norm() * pair.down.norm().cpu()
    loss = loss + up.norm() * (down - pair.down.cpu()).norm()  # ≥ ‖up@down − wanted‖
    limit = MAX_LOSS * max(_size(pair), NEGLIGIBLE * strongest)
    if not loss <= limit:
        raise _lossy(title, name, dtype)
    return cast


def _lossy(title: str, name: str, dtype: torch.dtype) -> MergeError:
    kind = str(dtype).removeprefix("torch.")
    return MergeError(
        f"{title}: layer {name} does not fit into {kind} (its values are too large or too small); "
        "save as fp32."
    )

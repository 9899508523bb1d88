"""Where LoRAs get in each other's way, before any merge: seen from their factors alone.

For every two of them, with all strengths folded in, block by block (Σ over a block's layers):
    cosine   Σ⟨Δ_i, Δ_j⟩ / (‖Δ_i‖ ‖Δ_j‖): 1 the same change, −1 the opposite one
    overlap  ‖Δ_i P_j‖ ‖Δ_j P_i‖ / (‖Δ_i‖ ‖Δ_j‖), P_j the projector on the inputs that Δ_j reads:
             1 if both react to the same inputs, 0 if neither sees what moves the other
    chance   the overlap that unrelated changes of these ranks have on average, √(r_i r_j) / in
    ratio    ‖Δ_i‖ / ‖Δ_j‖
No (out, in) matrix is built: P_j = D_jᵀ (D_j D_jᵀ)⁺ D_j of the factor D_j (rank, in).
What inputs really come only prompts can tell; these numbers say where to look.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from math import inf
from typing import Protocol

import torch
from torch import Tensor

from merging.adapter import Adapter
from merging.block_weights import BLOCKS
from merging.blocks import blocks
from merging.formats.layer_tables import table_of
from merging.linalg.delta import Delta, inner_product, scaled_delta
from merging.request import Source

REST = "rest"  # layers that lie in no block
LOST = 1e-10  # eigenvalues of D Dᵀ below this share of the largest are rounding
# From where on a person is told: of our choosing, no measured limits of what can be merged.
LOUD, SHARED, AGAINST, ALIKE = 2.0, 0.1, -0.1, 0.5


class Weights(Protocol):
    """A LoRA's strengths: a Source's, or those of whatever else has them."""

    @property
    def strength(self) -> float: ...
    @property
    def text_encoder(self) -> float: ...
    @property
    def unet(self) -> float: ...
    @property
    def blocks(self) -> Mapping[str, float] | None: ...


@dataclass(frozen=True)
class Meeting:
    """Two LoRAs in one block, or in all of them."""

    block: str
    cosine: float
    overlap: float
    chance: float
    ratio: float

    @property
    def shared(self) -> float:
        """The overlap beyond chance, in [0, 1]."""
        return max(self.overlap - self.chance, 0.0) / max(1 - self.chance, 1e-9)


@dataclass(frozen=True)
class Pair:
    """Two LoRAs, everywhere."""

    names: tuple[str, str]
    strengths: tuple[float, float]
    whole: Meeting
    blocks: tuple[Meeting, ...]  # those that either changes, in the order of BLOCKS

    @property
    def silent(self) -> bool:
        """Whether one of them is at strength 0."""
        return not all(self.strengths)

    @property
    def severity(self) -> float:
        """To put the worst pair first: the largest of what is told, each beside its bound."""
        louder = max(self.whole.ratio, 1 / self.whole.ratio) if not self.silent else 0.0
        alike = self.whole.cosine / (ALIKE if self.whole.cosine > 0 else AGAINST)
        return max(self.whole.shared / SHARED, louder / LOUD, alike)


@dataclass
class Sums:
    """Energies of a block, summed over its layers."""

    energy: list[float] = field(default_factory=lambda: [0.0, 0.0])
    seen: list[float] = field(default_factory=lambda: [0.0, 0.0])  # ‖Δ_i P_j‖², ‖Δ_j P_i‖²
    expected: list[float] = field(default_factory=lambda: [0.0, 0.0])  # the same by chance
    common: float = 0.0  # ⟨Δ_i, Δ_j⟩

    def at(self, one: float, other: float) -> Sums:
        """The same with every Δ_i multiplied; a LoRA at 0 has no inputs to meet at."""
        scales = (one**2, other**2)
        energy, seen, expected = (
            [scale * size for scale, size in zip(scales, sizes, strict=True)]
            for sizes in (self.energy, self.seen, self.expected)
        )
        if not (one and other):
            seen = expected = [0.0, 0.0]
        return Sums(energy, seen, expected, one * other * self.common)

    def meeting(self, block: str) -> Meeting:
        """The sums as the numbers that people read; where a LoRA is silent, nothing is common."""
        one, other = self.energy
        size = (one * other) ** 0.5
        if not size:
            return Meeting(block, 0.0, 0.0, 0.0, inf if one else 0.0)
        overlap, chance = (
            (max(a, 0.0) * max(b, 0.0)) ** 0.5 / size for a, b in (self.seen, self.expected)
        )
        return Meeting(block, self.common / size, overlap, chance, (one / other) ** 0.5)


Measured = Mapping[str, Sums]  # by block, at strength 1


def conflicts(sources: Sequence[Source]) -> tuple[Pair, ...]:
    """Every two of the sources, at their strengths."""
    return tuple(
        weighed_pair(
            (one.adapter.name, other.adapter.name),
            one,
            other,
            measured(one.adapter, other.adapter),
        )
        for one, other in combinations(sources, 2)
    )


def measured(one: Adapter, other: Adapter) -> Measured:
    """Two LoRAs of one base at strength 1, block by block: all that takes time."""
    places = blocks(table_of(one))
    sums: dict[str, Sums] = {}
    for layer in dict.fromkeys([*one.layers, *other.layers]):
        block = sums.setdefault(places.get(layer, REST), Sums())
        _count(block, *(_delta(own, layer) for own in (one, other)))
    return {block: sums[block] for block in (*BLOCKS, REST) if block in sums}


def weighed_pair(names: tuple[str, str], one: Weights, other: Weights, found: Measured) -> Pair:
    """What was measured, at the strengths of two sources."""
    sums = {
        block: own.at(_strength(one, block), _strength(other, block))
        for block, own in found.items()
    }
    met = tuple(own.meeting(block) for block, own in sums.items() if any(own.energy))
    return Pair(names, (one.strength, other.strength), _total(sums).meeting("all"), met)


def _delta(adapter: Adapter, layer: str) -> Delta | None:
    return scaled_delta(adapter.layers[layer], 1.0) if layer in adapter.layers else None


def _strength(source: Weights, block: str) -> float:
    """What every layer of a block is multiplied by."""
    part = source.text_encoder if block == "BASE" else source.unet
    own = 1.0 if source.blocks is None or block == REST else source.blocks.get(block, 0.0)
    return source.strength * part * own


def advice(pair: Pair) -> list[str]:
    """What the numbers mean, in sentences with what to try; the numbers cannot see pictures."""
    if pair.silent:
        name = pair.names[0 if not pair.strengths[0] else 1]
        return [f"{name} is at strength 0, so it meets nothing."]
    return [*_loudness(pair), *_direction(pair), _sharing(pair)]


def _loudness(pair: Pair) -> list[str]:
    ratio = pair.whole.ratio
    if 1 / LOUD < ratio < LOUD:
        return []
    loud = 0 if ratio > 1 else 1
    times = max(ratio, 1 / ratio)
    name, other = pair.names[loud], pair.names[1 - loud]
    return [
        f"{name} changes the model {times:.1f} times as much as {other} and may drown it; strength "
        f"{pair.strengths[loud] / times:.2f} for {name} makes them equal."
    ]


def _direction(pair: Pair) -> list[str]:
    cosine = pair.whole.cosine
    if cosine >= ALIKE:
        return [
            f"They make much the same change (cosine {cosine:.2f}), which a sum counts twice: try "
            "half the strength for each, or leave one out."
        ]
    if cosine <= AGAINST:
        worst = min(pair.blocks, key=lambda met: met.cosine)
        return [
            f"They partly undo each other (cosine {cosine:.2f}), most in {title(worst.block)}; "
            "block weights can turn one of them down there."
        ]
    return []


def _sharing(pair: Pair) -> str:
    whole = pair.whole
    numbers = f"overlap {whole.overlap:.0%}, where chance alone gives {whole.chance:.0%}"
    if whole.shared < SHARED:
        return f"They hardly react to the same inputs ({numbers}): even a plain sum may keep both."
    ranked = sorted(pair.blocks, key=lambda met: -met.shared)
    most = " and ".join(title(met.block) for met in ranked[:2])
    return (
        f"They react to the same inputs ({numbers}), most in {most}: a sum mixes them there. "
        "Try IterIS taught by prompts that name both, or lower strengths."
    )


def title(block: str) -> str:
    """A block as people say it."""
    return {"BASE": "the text encoder", REST: "layers outside all blocks"}.get(block, block)


def _count(sums: Sums, one: Delta | None, other: Delta | None) -> None:
    """Add one layer."""
    energies = [inner_product(own, None, own) if own else 0.0 for own in (one, other)]
    sums.energy = [a + b for a, b in zip(sums.energy, energies, strict=True)]
    if one is None or other is None:
        return
    sums.common += inner_product(one, None, other)
    width = one.down.shape[1]
    for i, (own, reader) in enumerate(((one, other), (other, one))):
        inverse, rank = _pseudo_inverse(reader.down @ reader.down.T)
        met = own.down @ reader.down.T
        sums.seen[i] += ((own.up.T @ own.up) * (met @ inverse @ met.T)).sum().item()
        sums.expected[i] += energies[i] * rank / width


def _pseudo_inverse(gram: Tensor) -> tuple[Tensor, int]:
    """(D Dᵀ)⁺ and the rank of D."""
    sizes, vectors = torch.linalg.eigh(gram)
    kept = sizes > LOST * sizes[-1].clamp_min(0)
    inverse = torch.where(kept, 1 / torch.where(kept, sizes, 1.0), 0.0)
    return (vectors * inverse) @ vectors.T, int(kept.sum())


def _total(parts: Mapping[str, Sums]) -> Sums:
    total = Sums()
    for part in parts.values():
        for name in ("energy", "seen", "expected"):
            both = zip(getattr(total, name), getattr(part, name), strict=True)
            setattr(total, name, [a + b for a, b in both])
        total.common += part.common
    return total

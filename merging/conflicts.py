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

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from math import inf

import torch
from torch import Tensor

from merging.block_weights import BLOCKS, blocks
from merging.deltas import Delta, inner, scaled
from merging.formats.layers import table_of
from merging.request import Source

REST = "rest"  # layers that lie in no block
LOST = 1e-10  # eigenvalues of D Dᵀ below this share of the largest are rounding
# From where on a person is told: of our choosing, no measured limits of what can be merged.
LOUD, SHARED, AGAINST, ALIKE = 2.0, 0.1, -0.1, 0.5


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
class _Sums:
    """Energies of a block, summed over its layers."""

    energy: list[float] = field(default_factory=lambda: [0.0, 0.0])
    seen: list[float] = field(default_factory=lambda: [0.0, 0.0])  # ‖Δ_i P_j‖², ‖Δ_j P_i‖²
    expected: list[float] = field(default_factory=lambda: [0.0, 0.0])  # the same by chance
    common: float = 0.0  # ⟨Δ_i, Δ_j⟩

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


def conflicts(sources: Sequence[Source]) -> tuple[Pair, ...]:
    """Every two of the sources, at their strengths; MergeError where a strength leaves nothing."""
    deltas = [_deltas(source) for source in sources]
    if not deltas:
        return ()
    places = blocks(table_of(sources[0].adapter))
    found = []
    for i, j in combinations(range(len(sources)), 2):
        one, other = sources[i], sources[j]
        whole, met = _met(deltas[i], deltas[j], places)
        names = (one.adapter.name, other.adapter.name)
        found.append(Pair(names, (one.strength, other.strength), whole, met))
    return tuple(found)


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
        "Try IterIS with prompts that name them all, or lower strengths."
    )


def title(block: str) -> str:
    """A block as people say it."""
    return {"BASE": "the text encoder", REST: "layers outside all blocks"}.get(block, block)


def _deltas(source: Source) -> dict[str, Delta]:
    layers = source.weighted.layers
    return {name: scaled(layer, source.strength) for name, layer in layers.items()}


def _met(
    one: Mapping[str, Delta], other: Mapping[str, Delta], places: Mapping[str, str]
) -> tuple[Meeting, tuple[Meeting, ...]]:
    """Everywhere, and block by block."""
    sums: dict[str, _Sums] = {}
    for layer in dict.fromkeys([*one, *other]):
        block = sums.setdefault(places.get(layer, REST), _Sums())
        _count(block, one.get(layer), other.get(layer))
    found = tuple(sums[block].meeting(block) for block in (*BLOCKS, REST) if block in sums)
    return _total(sums.values()).meeting("all"), found


def _count(sums: _Sums, one: Delta | None, other: Delta | None) -> None:
    """Add one layer."""
    energies = [inner(own, None, own) if own else 0.0 for own in (one, other)]
    sums.energy = [a + b for a, b in zip(sums.energy, energies, strict=True)]
    if one is None or other is None:
        return
    sums.common += inner(one, None, other)
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


def _total(parts: Iterable[_Sums]) -> _Sums:
    total = _Sums()
    for part in parts:
        for name in ("energy", "seen", "expected"):
            both = zip(getattr(total, name), getattr(part, name), strict=True)
            setattr(total, name, [a + b for a, b in both])
        total.common += part.common
    return total

"""A search for strengths: the visitor's order, and its result."""

from __future__ import annotations

from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

from app.schemas.merge import MergeOrder, SelectedFile

# Judge of merging/tuning/judges.py → how the page calls it.
JUDGES = {
    "objective": "The layers: how well each LoRA is imitated; draws no picture",
    "advantage": "Pictures: whether each LoRA finds its concept in them; takes longer",
}
BUDGET = 10  # merges by the search unless the visitor says so, and as many at random


@dataclass(frozen=True)
class TuneOrder:
    """Strengths for a merge, by search."""

    merge: MergeOrder
    judge: str = "objective"
    budget: int = BUDGET

    @property
    def merges(self) -> int:
        """The number of merges: given, random and tuned ones, and the best of these once more."""
        return 1 + 2 * self.budget + 3

    @property
    def key(self) -> str:
        """A file name for its trials: the same order goes on where it was stopped."""
        return sha256(repr(self).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class TunedKind:
    """The best of the given, the random or the tuned strengths."""

    kind: str
    strengths: tuple[float, ...]  # of the LoRAs
    score: float  # on the prompts that were tuned on
    held_out: float  # on the others


@dataclass(frozen=True)
class TuneResult:
    """A finished search."""

    order: TuneOrder
    factors: tuple[float, ...]  # of the strengths in the order; 1 where tuning did not help
    verdict: str
    best: tuple[TunedKind, ...]
    trials: int
    plot: Path

    @property
    def helped(self) -> bool:
        """Whether there are other strengths to use."""
        return any(factor != 1 for factor in self.factors)

    def taken_by(self, pick: SelectedFile) -> SelectedFile:
        """A file with its new strengths, each to four digits; another file as it is."""
        for tuned, factor in zip(self.order.merge.picks, self.factors, strict=True):
            if tuned.path == pick.path:
                return replace(
                    pick,
                    strength=round(tuned.strength * factor, 4),
                    text_encoder=_times(tuned.text_encoder, factor),
                    unet=_times(tuned.unet, factor),
                )
        return pick


def _times(strength: float | None, factor: float) -> float | None:
    return None if strength is None else round(strength * factor, 4)

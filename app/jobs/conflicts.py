"""Where a visitor's LoRAs meet: measured once for every two files, at any strengths after that."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from app.schemas.card import Card
from app.schemas.merge import SelectedFile
from merging import formats
from merging.analysis.conflicts import Measured, Pair, measured, weighed_pair

MOST_KEPT = 500  # pairs of files, a few numbers each


@dataclass(frozen=True)
class ConflictReport:
    """Every two of the LoRAs that can be compared, the worst first."""

    pairs: tuple[Pair, ...] = ()
    said: tuple[str, ...] = ()  # what could not be compared, and why


class ConflictFinder:
    """Pairs of files by their hashes; what is kept of them says nothing of who had them."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], Measured] = {}
        self._one_at_a_time = threading.Lock()

    def of(self, cards: Sequence[Card], picks: Sequence[SelectedFile]) -> ConflictReport:
        """The picks that are on, as their strengths are now; MergeError for a damaged file."""
        listed = [
            (card, pick)
            for card, pick in zip(cards, picks, strict=True)
            if pick.on and not card.is_word
        ]
        both = [(card, pick) for card, pick in listed if not card.needs_base]
        said = [
            f"{card.name} is not compared: its changes are known only with the base model."
            for card, _ in listed
            if card.needs_base
        ]
        with self._one_at_a_time:
            found = self._measured([card for card, _ in both])
        pairs = [
            weighed_pair(
                (one.name, other.name), a.weighed, b.weighed, found[one.sha256, other.sha256]
            )
            for (one, a), (other, b) in combinations(both, 2)
            if one.base == other.base
        ]
        return ConflictReport(tuple(sorted(pairs, key=lambda pair: -pair.severity)), tuple(said))

    def _measured(self, cards: Sequence[Card]) -> dict[tuple[str, str], Measured]:
        """Every two of one base, read only where they are new."""
        wanted = [(a, b) for a, b in combinations(cards, 2) if a.base == b.base]
        fresh = [pair for pair in wanted if _key(*pair) not in self._known]
        adapters = {
            card.sha256: formats.read(card.path, name=f"{card.name}.safetensors")
            for card in {card.sha256: card for pair in fresh for card in pair}.values()
        }
        if len(self._known) > MOST_KEPT:
            self._known.clear()
        for one, other in fresh:
            self._known[_key(one, other)] = measured(adapters[one.sha256], adapters[other.sha256])
        return {_key(*pair): self._known[_key(*pair)] for pair in wanted}


def _key(one: Card, other: Card) -> tuple[str, str]:
    return one.sha256, other.sha256

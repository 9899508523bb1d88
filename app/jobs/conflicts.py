"""Conflicts of a visitor's LoRAs: computed once for a pair of files, then for any strengths."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from app.schemas.card import Card
from app.schemas.merge import SelectedFile
from merging import formats
from merging.adapter import Adapter
from merging.analysis.conflicts import PairConflict, SumsByBlock, pair_at_strengths, sums_by_block
from merging.analysis.findings import findings, sentences

MAX_PAIRS = 500  # pairs of files in the cache, a few numbers each


@dataclass(frozen=True)
class ConflictReport:
    """The pairs of LoRAs that can be compared, the worst first."""

    pairs: tuple[PairConflict, ...] = ()
    notes: tuple[str, ...] = ()  # what is unusual, and which LoRAs cannot be compared


class ConflictFinder:
    """Compares pairs of files, cached by their hashes; the cache names no visitor."""

    def __init__(self) -> None:
        self._cache: dict[tuple[str, str], SumsByBlock] = {}
        self._unusual: dict[tuple[str, ...], list[str]] = {}  # hashes → findings
        self._lock = threading.Lock()

    def of(self, cards: Sequence[Card], picks: Sequence[SelectedFile]) -> ConflictReport:
        """The conflicts of the files in use, at their strengths; MergeError for a damaged file."""
        active = [
            (card, pick)
            for card, pick in zip(cards, picks, strict=True)
            if pick.on and not card.is_word
        ]
        comparable = [(card, pick) for card, pick in active if not card.needs_base]
        notes = [
            f"{card.name} is not compared: that needs the base model's weights."
            for card, _ in active
            if card.needs_base
        ]
        with self._lock:
            sums = self._sums_of([card for card, _ in comparable])
            notes = self._findings_of([card for card, _ in comparable]) + notes
        pairs = [
            pair_at_strengths(
                (one.name, other.name), a.lora_input, b.lora_input, sums[one.sha256, other.sha256]
            )
            for (one, a), (other, b) in combinations(comparable, 2)
            if one.base == other.base
        ]
        return ConflictReport(tuple(sorted(pairs, key=lambda pair: -pair.severity)), tuple(notes))

    def _findings_of(self, cards: Sequence[Card]) -> list[str]:
        """What is unusual in the files for one base model; known sets of files are not read."""
        key = tuple(sorted(card.sha256 for card in cards))
        if key not in self._unusual:
            if len(self._unusual) > MAX_PAIRS:
                self._unusual.clear()
            bases = dict.fromkeys(card.base for card in cards)
            groups = [[card for card in cards if card.base == base] for base in bases]
            self._unusual[key] = [
                sentence for group in groups for sentence in sentences(findings(_adapters(group)))
            ]
        return self._unusual[key]

    def _sums_of(self, cards: Sequence[Card]) -> dict[tuple[str, str], SumsByBlock]:
        """Sums of every pair for one base model; files of cached pairs are not read."""
        pairs = [(a, b) for a, b in combinations(cards, 2) if a.base == b.base]
        new = [pair for pair in pairs if _key(*pair) not in self._cache]
        files = {card.sha256: card for pair in new for card in pair}
        adapters = dict(zip(files, _adapters(list(files.values())), strict=True))
        if len(self._cache) > MAX_PAIRS:
            self._cache.clear()
        for one, other in new:
            sums = sums_by_block(adapters[one.sha256], adapters[other.sha256])
            self._cache[_key(one, other)] = sums
        return {_key(*pair): self._cache[_key(*pair)] for pair in pairs}


def _adapters(cards: Sequence[Card]) -> list[Adapter]:
    return [formats.read(card.path, name=f"{card.name}.safetensors") for card in cards]


def _key(one: Card, other: Card) -> tuple[str, str]:
    return one.sha256, other.sha256

"""The shelf as cases: its pairs, and its sets merged at once and asked for two at a time.

Three pairs are few to choose by, so all objects of the tuning pairs also meet crosswise.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations

from merging.evaluation.cases import Case, Concept, asked
from merging.evaluation.shelf import (
    LORAS,
    SPLITS,
    Entry,
    listed_pairs,
    shelf,
    shelf_pairs,
    shelf_sets,
)

TITLES = {"object": "objects", "style": "object + style", "same": "two of a kind"}


def shelf_cases(split: str, count: int, things: Sequence[str]) -> tuple[Case, ...]:
    """Cases of one split, or of "all", with ``count`` pictures of each kind.

    ``things`` are the base's objects; those that a case is about are not asked for as others.
    """
    splits = SPLITS if split == "all" else (split,)
    return tuple(case for each in splits for case in _cases(each, count, things))


def _cases(split: str, count: int, things: Sequence[str]) -> Iterator[Case]:
    entries = {entry.trigger: entry for entry in shelf()}
    for pair in listed_pairs():
        if pair.split == split:
            own = tuple(entries[trigger] for trigger in pair.triggers)
            yield _case(pair.name, TITLES[pair.kind], split, own, count, things)
    for name, own in _crossed(split).items():
        yield _case(name, "objects crossed", split, own, count, things)
    for size, own in shelf_sets(split).items():
        yield _case(f"{split}-{size}", f"{size} at once", split, own, count, things)


def _crossed(split: str) -> dict[str, tuple[Entry, Entry]]:
    """Every two objects of different tuning pairs, by name; claims stay with the listed pairs."""
    pairs = shelf_pairs("tuning").values() if split == "tuning" else ()
    return {
        f"{one.object}-{other.object}": (one, other)
        for first, second in combinations(pairs, 2)
        for one in first
        for other in second
    }


def _case(
    name: str, kind: str, split: str, own: Sequence[Entry], count: int, things: Sequence[str]
) -> Case:
    concepts = tuple(Concept(LORAS / entry.file, entry.trigger) for entry in own)
    about = {entry.object for entry in own}
    others = [thing for thing in things if thing not in about]
    return Case(name, kind, split, concepts, asked(concepts, others, count))

"""The shelf as cases: its pairs, and its sets merged at once and asked for two at a time.

Three pairs are few to choose by, so all objects of the tuning pairs also meet crosswise, and the
tuning style meets all of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations, product

from merging.bundled import (
    LORAS,
    SPLITS,
    Entry,
    listed_pairs,
    shelf,
    shelf_pairs,
    shelf_sets,
)
from merging.evaluation.cases import Case, Concept, asked

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
    for kind, own in _crossed(split):
        name = "-".join(each.look if each.kind == "style" else each.object for each in own)
        yield _case(name, f"{TITLES[kind]} crossed", split, own, count, things)
    for size, own in shelf_sets(split).items():
        yield _case(f"{split}-{size}", f"{size} at once", split, own, count, things)


def _crossed(split: str) -> Iterator[tuple[str, tuple[Entry, Entry]]]:
    """Kind and LoRAs of every two of the tuning pairs that no pair has; claims stay with pairs."""
    if split != "tuning":
        return
    pairs = shelf_pairs(split).values()
    for first, second in combinations(pairs, 2):
        yield from (("object", couple) for couple in product(first, second))
    for styled, style in shelf_pairs(split, "style").values():
        things = (thing for pair in pairs for thing in pair)
        yield from (("style", (thing, style)) for thing in things if thing != styled)


def _case(
    name: str, kind: str, split: str, own: Sequence[Entry], count: int, things: Sequence[str]
) -> Case:
    concepts = tuple(Concept(LORAS / entry.file, entry.trigger) for entry in own)
    about = {entry.object for entry in own}
    others = [thing for thing in things if thing not in about]
    return Case(name, kind, split, concepts, asked(concepts, others, count))

"""The bundled LoRAs as cases: their pairs, and larger sets whose pictures show two at a time.

Three tuning pairs are few, so all objects of the tuning pairs are also paired with each other, and
the tuning style with all of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations, product

from merging.bundled import (
    LORAS,
    SPLITS,
    BundledLora,
    listed_pairs,
    shelf,
    shelf_pairs,
    shelf_sets,
)
from merging.evaluation.cases import Case, Concept, picture_tasks

TITLES = {"object": "objects", "style": "object + style", "same": "two of a kind"}


def shelf_cases(split: str, count: int, things: Sequence[str]) -> tuple[Case, ...]:
    """Cases of one split, or of "all", with ``count`` pictures of each kind.

    ``things`` are the base's objects; prior pictures of a case leave out its own.
    """
    splits = SPLITS if split == "all" else (split,)
    return tuple(case for name in splits for case in _cases(name, count, things))


def _cases(split: str, count: int, things: Sequence[str]) -> Iterator[Case]:
    entries = {entry.trigger: entry for entry in shelf()}
    for pair in listed_pairs():
        if pair.split == split:
            loras = tuple(entries[trigger] for trigger in pair.triggers)
            yield _case(pair.name, TITLES[pair.kind], split, loras, count, things)
    for kind, couple in _crossed(split):
        name = "-".join(_short_name(lora) for lora in couple)
        yield _case(name, f"{TITLES[kind]} crossed", split, couple, count, things)
    for name, loras in shelf_sets(split).items():
        yield _case(name, f"{len(loras)} at once", split, loras, count, things)


def _short_name(lora: BundledLora) -> str:
    """ "cat" of "sks cat", "zqx" of "zqx style"."""
    return lora.trigger.split()[0] if lora.kind == "style" else lora.object


def _crossed(split: str) -> Iterator[tuple[str, tuple[BundledLora, BundledLora]]]:
    """Kind and LoRAs of all couples across the tuning pairs; none for the test split."""
    if split != "tuning":
        return
    pairs = shelf_pairs(split).values()
    for first, second in combinations(pairs, 2):
        yield from (("object", couple) for couple in product(first, second))
    for styled, style in shelf_pairs(split, "style").values():
        things = (thing for pair in pairs for thing in pair)
        yield from (("style", (thing, style)) for thing in things if thing != styled)


def _case(
    name: str,
    kind: str,
    split: str,
    loras: Sequence[BundledLora],
    count: int,
    things: Sequence[str],
) -> Case:
    concepts = tuple(Concept(LORAS / entry.file, entry.trigger) for entry in loras)
    about = {entry.object for entry in loras}
    others = [thing for thing in things if thing not in about]
    return Case(name, kind, split, concepts, picture_tasks(concepts, others, count))

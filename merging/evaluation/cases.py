"""Cases of the benchmark: which LoRAs are merged together, and which pictures are drawn.

A case merges its concepts and has three kinds of pictures:
together: two of the concepts (all of a pair) in one prompt, in either order;
alone: one concept, which must look as with its LoRA alone;
prior: another object, which must look as with the base alone.
Prompts and seeds depend on the case only, so all contestants draw the same ones.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Literal

from merging.calibration.prompts import is_style
from merging.errors import MergeError
from merging.runtime.seeds import seed_for

Kind = Literal["together", "alone", "prior"]

TOGETHER = (
    "a photo of {0} and {1}",
    "a picture of {0} next to {1}",
    "{0} and {1} on a green background",
    "an image of {0} beside {1} on a white background",
)
ALONE = ("a photo of {0}", "an image of {0} on a green background")


@dataclass(frozen=True)
class Concept:
    """One LoRA of a case."""

    file: Path
    trigger: str
    references: tuple[Path, ...] = ()  # real pictures; (): pictures drawn with its LoRA alone

    @property
    def style(self) -> bool:
        """Whether it is a style of whole pictures, not an object."""
        return is_style(self.trigger)


@dataclass(frozen=True)
class PictureTask:
    """One picture to draw."""

    kind: Kind
    prompt: str
    named: tuple[str, ...]  # the triggers in the prompt, or the other object
    seed: int


@dataclass(frozen=True)
class Case:
    """LoRAs that are merged together, and the pictures to draw."""

    name: str
    kind: str  # "objects", "object + style", "same class", "4 at once", …
    split: str  # "tuning" to choose defaults, "test" for the published figures
    concepts: tuple[Concept, ...]
    tasks: tuple[PictureTask, ...]

    def __post_init__(self) -> None:
        """Raise MergeError for a missing trigger or file, before any work."""
        for concept in self.concepts:
            if not concept.trigger.strip():
                raise MergeError(f"{self.name}: {concept.file} has no trigger phrase; give it one.")
            for file in (concept.file, *concept.references):
                if not file.is_file():
                    raise MergeError(f"{self.name}: there is no file {file}; correct its path.")

    @property
    def triggers(self) -> tuple[str, ...]:
        """The trigger phrases of the concepts, in the case's order."""
        return tuple(concept.trigger for concept in self.concepts)


def picture_tasks(
    concepts: Sequence[Concept],
    others: Sequence[str],
    count: int,
    templates: Sequence[str] = TOGETHER,
) -> tuple[PictureTask, ...]:
    """``count`` pictures of each kind; pairs, their orders, templates and others take turns.

    Without ``others`` there are no prior pictures. Raises MergeError if no two concepts can be in
    one picture.
    """
    rng = random.Random(seed_for(0, *sorted(concept.trigger for concept in concepts)))
    things = rng.sample(list(others), len(others))
    couples = _couples(concepts)
    together = [
        _together(couples[i % len(couples)], templates[i // 2 % len(templates)], i)
        for i in range(count)
    ]
    alone = [_alone(concepts[i % len(concepts)], things, i) for i in range(count)]
    prior = [
        PictureTask("prior", ALONE[0].format(article(thing)), (thing,), seed)
        for seed, thing in zip(range(count), things * count, strict=False)
    ]
    return (*together, *alone, *prior)


def select_cases(cases: Sequence[Case], names: Sequence[str]) -> tuple[Case, ...]:
    """The cases with these names, in the order of ``cases``. MergeError for an unknown name."""
    known = [case.name for case in cases]
    if strange := [name for name in names if name not in known]:
        raise MergeError(f"No case is called {strange[0]}; there are {', '.join(known)}.")
    return tuple(case for case in cases if case.name in names)


def article(phrase: str) -> str:
    """ "an owl", "a sks owl"."""
    return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"


def _couples(concepts: Sequence[Concept]) -> list[tuple[Concept, Concept]]:
    """All pairs of concepts that can be in one picture, in both orders."""
    pairs = [
        pair for pair in combinations(concepts, 2) if not all(concept.style for concept in pair)
    ]
    if not pairs:
        raise MergeError("A case needs two concepts, not both of them styles.")
    return [couple for first, second in pairs for couple in ((first, second), (second, first))]


def _together(couple: tuple[Concept, Concept], template: str, seed: int) -> PictureTask:
    """Two objects in the template; a style comes after the object, or before it."""
    first, second = couple
    if second.style:
        prompt = f"{ALONE[0].format(article(first.trigger))} in {second.trigger}"
    elif first.style:
        prompt = f"in {first.trigger}, {ALONE[0].format(article(second.trigger))}"
    else:
        prompt = template.format(article(first.trigger), article(second.trigger))
    return PictureTask("together", prompt, (first.trigger, second.trigger), seed)


def _alone(concept: Concept, things: Sequence[str], seed: int) -> PictureTask:
    """The object, or another object in the style."""
    if not concept.style:
        prompt = ALONE[seed // 2 % len(ALONE)].format(article(concept.trigger))
    else:
        thing = things[seed % len(things)] if things else "house"
        prompt = f"{ALONE[0].format(article(thing))} in {concept.trigger}"
    return PictureTask("alone", prompt, (concept.trigger,), seed)

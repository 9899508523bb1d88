"""What the benchmark asks for: which LoRAs are merged at once, and what each picture is to show.

A case merges its concepts together and then asks for three kinds of pictures:
together: two of the concepts (all of a pair) in one prompt, in either order;
alone: one concept, which must look as it did under its own LoRA;
prior: another thing, which must look as it did under the base.
Prompts and seeds belong to the case alone, so that every contestant draws the same ones.
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
    references: tuple[Path, ...] = ()  # pictures of the real thing; (): what its own LoRA draws

    @property
    def style(self) -> bool:
        """Whether it is how everything looks, rather than one thing."""
        return is_style(self.trigger)


@dataclass(frozen=True)
class Ask:
    """One picture to draw."""

    kind: Kind
    prompt: str
    named: tuple[str, ...]  # the triggers in the prompt, or the name of the other thing
    seed: int


@dataclass(frozen=True)
class Case:
    """LoRAs that are merged at once, and the pictures they are asked for."""

    name: str
    kind: str  # "objects", "object + style", "same class", "4 at once", …
    split: str  # "tuning" or "test": defaults are chosen on the one, claims are made on the other
    concepts: tuple[Concept, ...]
    asks: tuple[Ask, ...]

    def __post_init__(self) -> None:
        """MergeError for what would make the work worthless, before any is done."""
        for concept in self.concepts:
            if not concept.trigger.strip():
                raise MergeError(f"{self.name}: {concept.file} has no trigger phrase; give it one.")
            for file in (concept.file, *concept.references):
                if not file.is_file():
                    raise MergeError(f"{self.name}: there is no file {file}; mend its path.")

    @property
    def triggers(self) -> tuple[str, ...]:
        """The phrases that call the concepts, in the case's order."""
        return tuple(concept.trigger for concept in self.concepts)


def asked(
    concepts: Sequence[Concept],
    others: Sequence[str],
    count: int,
    templates: Sequence[str] = TOGETHER,
) -> tuple[Ask, ...]:
    """``count`` pictures of each kind: couples, their orders, templates and others in turn.

    Without ``others`` there are no prior pictures. Raises MergeError where no two concepts can
    stand in one picture.
    """
    drawn = random.Random(seed_for(0, *sorted(concept.trigger for concept in concepts)))
    things = drawn.sample(list(others), len(others))
    couples = _couples(concepts)
    together = [
        _together(couples[i % len(couples)], templates[i // 2 % len(templates)], i)
        for i in range(count)
    ]
    alone = [_alone(concepts[i % len(concepts)], things, i) for i in range(count)]
    prior = [
        Ask("prior", ALONE[0].format(article(thing)), (thing,), seed)
        for seed, thing in zip(range(count), things * count, strict=False)
    ]
    return (*together, *alone, *prior)


def chosen(cases: Sequence[Case], names: Sequence[str]) -> tuple[Case, ...]:
    """The cases of these names, in their own order. MergeError for a name that none has."""
    known = [case.name for case in cases]
    if strange := [name for name in names if name not in known]:
        raise MergeError(f"No case is called {strange[0]}; there are {', '.join(known)}.")
    return tuple(case for case in cases if case.name in names)


def article(phrase: str) -> str:
    """ "an owl", "a sks owl"."""
    return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"


def _couples(concepts: Sequence[Concept]) -> list[tuple[Concept, Concept]]:
    """Every two concepts that can stand in one picture, each order after the other."""
    pairs = [pair for pair in combinations(concepts, 2) if not all(each.style for each in pair)]
    if not pairs:
        raise MergeError("A case needs two concepts, not both of them styles.")
    return [couple for one, other in pairs for couple in ((one, other), (other, one))]


def _together(couple: tuple[Concept, Concept], template: str, seed: int) -> Ask:
    """Two objects by the template; a style follows the object, or goes before it."""
    first, second = couple
    if second.style:
        prompt = f"{ALONE[0].format(article(first.trigger))} in {second.trigger}"
    elif first.style:
        prompt = f"in {first.trigger}, {ALONE[0].format(article(second.trigger))}"
    else:
        prompt = template.format(article(first.trigger), article(second.trigger))
    return Ask("together", prompt, (first.trigger, second.trigger), seed)


def _alone(concept: Concept, things: Sequence[str], seed: int) -> Ask:
    """One object, or another thing in one style."""
    if not concept.style:
        prompt = ALONE[seed // 2 % len(ALONE)].format(article(concept.trigger))
    else:
        thing = things[seed % len(things)] if things else "house"
        prompt = f"{ALONE[0].format(article(thing))} in {concept.trigger}"
    return Ask("alone", prompt, (concept.trigger,), seed)

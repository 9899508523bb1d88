"""Calibration prompts: unlabelled sentences that name one concept, as its owner would type them.

The paper takes about 50 samples per concept (arXiv:2411.15231) and does not print its prompts;
these templates are ours.
"""

from __future__ import annotations

import random
from itertools import product

from merging.errors import MergeError

_SCENES = (
    "a photo of a {}",
    "a picture of a {}",
    "a close-up of a {}",
    "one {}",
    "a {}",
    "a photo of a {} and a tree",
    "a photo of a house and a {}",
    "a {} to the left of a gift",
    "a balloon to the left of a {}",
    "a {} next to a star",
)
_PLACES = (
    "",
    " on a green background",
    " on a blue background",
    " on a red background",
    " on a yellow background",
    " on a white background",
    " on a pink background",
    " on a gray background",
)


def concept_prompts(trigger: str, count: int, seed: int) -> tuple[str, ...]:
    """``count`` sentences with the trigger in them, drawn without repeats while they last."""
    if not trigger.strip():
        raise MergeError(
            "No trigger phrase is known for one of the LoRAs; type the words that call its concept."
        )
    return _drawn([(scene + place).format(trigger.strip()) for scene, place in _pairs()], count, seed)


def plain_prompts(count: int, seed: int) -> tuple[str, ...]:
    """``count`` sentences about ordinary things, none of them a concept: rows to preserve."""
    things = ("tree", "house", "star", "cake", "boat", "apple", "bird", "chair", "flower", "cup")
    sentences = [
        (scene + place).format(thing) for (scene, place), thing in product(_pairs(), things)
    ]
    return _drawn(sentences, count, seed)


def _pairs() -> list[tuple[str, str]]:
    return list(product(_SCENES, _PLACES))


def _drawn(sentences: list[str], count: int, seed: int) -> tuple[str, ...]:
    """The first ``count`` of a seeded shuffle, starting over when the sentences run out."""
    shuffled = random.Random(seed).sample(sentences, len(sentences))
    return tuple(shuffled[i % len(shuffled)] for i in range(count))

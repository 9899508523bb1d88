"""Calibration prompts: unlabelled sentences that name one concept, as its owner would type them.

The paper takes about 50 samples per concept (arXiv:2411.15231) and does not print its prompts;
these templates are ours.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import permutations, product

from merging.errors import MergeError

Couple = tuple[int, int]  # places of two LoRAs

_LEADS = ("a photo of {}", "a picture of {}", "an image of {}", "{}")
_SCENES = (
    "a {}",
    "a {}",
    "a {} and a tree",
    "a house and a {}",
    "a {} next to a gift",
    "a star beside a {}",
)
_JOINTS = (" and ", " and ", " next to ", " beside ")
_PLACES = (
    "",
    " on a white background",
    " on a black background",
    " on a gray background",
    " on a red background",
    " on a yellow background",
    " on a green background",
    " on a blue background",
    " on a pink background",
)
_THINGS = ("tree", "house", "star", "cake", "cup", "apple", "bird", "chair", "flower", "boat")
# What a merge must leave alone is anything that people draw, not only what stands beside concepts.
_ORDINARY = (
    *("dog", "cat", "horse", "bird", "fish", "rabbit", "bear", "elephant", "butterfly"),
    *("tree", "flower", "mushroom", "mountain", "house", "castle", "bridge", "tower"),
    *("car", "bus", "train", "bicycle", "boat", "plane", "rocket", "ball", "kite", "balloon"),
    *("cup", "bottle", "bowl", "table", "chair", "lamp", "bed", "clock", "book", "phone", "camera"),
    *("guitar", "piano", "drum", "umbrella", "hat", "shoe", "shirt", "bag", "key"),
    *("apple", "banana", "orange", "strawberry", "cake", "pizza", "bread", "egg"),
    *("man", "woman", "child", "robot", "ghost", "snowman", "star", "moon", "sun", "cloud"),
)
_AMONG = ("a {}", "a {}", "a {} and a tree", "a {} next to a house")
_STYLED = tuple(f"a {thing} in {{}}" for thing in _THINGS)


def is_style(trigger: str) -> bool:
    """Whether a trigger calls a look of whole pictures, not a thing: it ends in "style"."""
    return trigger.lower().split()[-1:] == ["style"]


def concept_prompts(trigger: str, count: int, seed: int) -> tuple[str, ...]:
    """``count`` sentences with the trigger in them, drawn without repeats while they last."""
    if not trigger.strip():
        raise MergeError(
            "No trigger phrase is known for one of the LoRAs; type the words that call its concept."
        )
    scenes = _STYLED if is_style(trigger) else _SCENES
    return _drawn([text.format(trigger.strip()) for text in _sentences(scenes)], count, seed)


def tag_prompts(trigger: str, tags: Sequence[str]) -> tuple[str, ...]:
    """Sentences from the words of a file's own captions, as they were written for its training.

    A caption that names the trigger is taken as it is; any other word follows the trigger.
    """
    phrase = trigger.strip()
    named = [tag.strip() for tag in tags if tag.strip()]
    sentences = [
        tag if phrase.lower() in tag.lower() else f"a photo of a {phrase}, {tag}" for tag in named
    ]
    return tuple(dict.fromkeys(sentences)) if phrase else ()


def composed_prompts(triggers: Sequence[str], count: int, seed: int) -> tuple[str, ...]:
    """``count`` sentences that name two of the concepts each, in either order.

    Two at a time, however many there are: many things at once are what a base draws worst, and the
    sentence would soon be longer than it reads. A style comes after the thing that it is to show.
    """
    styles = [trigger for trigger in triggers if is_style(trigger)]
    things = [trigger for trigger in triggers if not is_style(trigger)]
    couples = list(permutations(things, 2))
    orders = random.Random(seed).sample(couples, len(couples))
    listings = [f"a {one}{joint}a {other}" for joint in _JOINTS for one, other in orders]
    shown = product((" in ", ", ", " in ", ", "), things or _THINGS, styles)
    listings += [f"a {thing}{joint}{style}" for joint, thing, style in shown]
    return _drawn(_sentences(listings), count, seed)


def couples(triggers: Sequence[str]) -> list[Couple]:
    """Which LoRAs are taught together, whatever order they come in.

    Every thing with two others, so that the work grows with their number and not its square; every
    style with one thing.
    """
    order = sorted(range(len(triggers)), key=triggers.__getitem__)
    things = [i for i in order if not is_style(triggers[i])]
    styles = [i for i in order if is_style(triggers[i])]
    ring = list(zip(things, [*things[1:], *things[:1]], strict=True))
    found = ring if len(things) > 2 else ring[:-1]
    return found + [(things[k % len(things)], i) for k, i in enumerate(styles) if things]


def one_picture(triggers: Sequence[str]) -> str:
    """A sentence that names all concepts, things in their order and then styles."""
    things = [f"a {trigger}" for trigger in triggers if not is_style(trigger)] or ["a house"]
    styles = [trigger for trigger in triggers if is_style(trigger)]
    listed = f"{', '.join(things[:-1])} and {things[-1]}" if things[1:] else things[0]
    return _LEADS[0].format(listed) + (f" in {', '.join(styles)}" if styles else "")


def plain_prompts(count: int, seed: int, triggers: Sequence[str] = ()) -> tuple[str, ...]:
    """``count`` sentences about ordinary things that say none of the triggers: rows to preserve."""
    sentences = _sentences([scene.format(thing) for scene in _AMONG for thing in _ORDINARY])
    said = [f" {trigger.strip().lower()} " for trigger in triggers]
    plain = [text for text in sentences if not any(each in f" {text} " for each in said)]
    return _drawn(plain or sentences, count, seed)


def _sentences(scenes: Sequence[str]) -> list[str]:
    """Every scene with every lead and every place."""
    rows = product(_LEADS, scenes, _PLACES)
    return [lead.replace("{}", scene) + place for lead, scene, place in rows]


def _drawn(sentences: list[str], count: int, seed: int) -> tuple[str, ...]:
    """The first ``count`` of a seeded shuffle, starting over when the sentences run out."""
    shuffled = random.Random(seed).sample(sentences, len(sentences))
    return tuple(shuffled[i % len(shuffled)] for i in range(count))

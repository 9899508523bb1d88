"""Calibration prompts: sentences that name one concept or two, made from templates.

The paper uses about 50 samples per concept (arXiv:2411.15231) and does not print its prompts.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import permutations, product

from merging.errors import MergeError
from merging.text.phrases import phrases_in
from merging.text.syntax import escaped, parse_prompt, plain_text

LoraPair = tuple[int, int]  # indices of two LoRAs

_LEADS = ("a photo of {}", "a picture of {}", "an image of {}", "{}")
_SCENES = (
    "a {}",
    "a {}",
    "a {} and a tree",
    "a house and a {}",
    "a {} next to a gift",
    "a star beside a {}",
)
_CONJUNCTIONS = (" and ", " and ", " next to ", " beside ")
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
# Things of preserved prompts: whatever people draw, not only what appears beside concepts.
_ORDINARY = (
    *("dog", "cat", "horse", "bird", "fish", "rabbit", "bear", "elephant", "butterfly"),
    *("tree", "flower", "mushroom", "mountain", "house", "castle", "bridge", "tower"),
    *("car", "bus", "train", "bicycle", "boat", "plane", "rocket", "ball", "kite", "balloon"),
    *("cup", "bottle", "bowl", "table", "chair", "lamp", "bed", "clock", "book", "phone", "camera"),
    *("guitar", "piano", "drum", "umbrella", "hat", "shoe", "shirt", "bag", "key"),
    *("apple", "banana", "orange", "strawberry", "cake", "pizza", "bread", "egg"),
    *("man", "woman", "child", "robot", "ghost", "snowman", "star", "moon", "sun", "cloud"),
)
_PLAIN_SCENES = ("a {}", "a {}", "a {} and a tree", "a {} next to a house")
_STYLE_SCENES = tuple(f"a {thing} in {{}}" for thing in _THINGS)


def is_style(trigger: str) -> bool:
    """Whether a trigger phrase names a style, not a thing: it ends in "style"."""
    return trigger.lower().split()[-1:] == ["style"]


def concept_prompts(trigger: str, count: int, seed: int) -> tuple[str, ...]:
    """``count`` sentences with the trigger phrase, without repeats as long as they suffice."""
    if not trigger.strip():
        raise MergeError(
            "One of the LoRAs has no trigger phrase; type the phrase that its concept was trained "
            "with."
        )
    scenes = _STYLE_SCENES if is_style(trigger) else _SCENES
    return _sample([text.format(trigger.strip()) for text in _sentences(scenes)], count, seed)


def plain_prompts_of(prompts: Sequence[str]) -> tuple[str, ...]:
    """The user's prompts without A1111's syntax; what a BREAK parts are prompts of their own.

    A merge learns from words, whatever they weigh: weights scale what layers read, and a linear
    layer that is right for some input is right for its multiples.
    """
    parts = [part for prompt in prompts for part in parse_prompt(prompt).parts]
    texts = ("".join(fragment.text for fragment in part) for part in parts)
    return tuple(text for text in texts if text)


def tag_prompts(trigger: str, tags: Sequence[str]) -> tuple[str, ...]:
    """Sentences from the training captions in a file's header.

    A caption with the trigger phrase stays as it is; any other follows the phrase. Captions have no
    syntax: a trainer reads brackets as they stand there, so they are escaped.
    """
    words = plain_text(trigger.strip())
    captions = [tag.strip() for tag in tags if tag.strip()]
    sentences = [
        caption if phrases_in(caption, [words]) else f"a photo of a {words}, {caption}"
        for caption in captions
    ]
    return tuple(dict.fromkeys(map(escaped, sentences))) if words else ()


def composed_prompts(triggers: Sequence[str], count: int, seed: int) -> tuple[str, ...]:
    """``count`` sentences that name two of the concepts, in either order.

    Never more than two: base models draw many things at once badly, and the prompt would soon have
    too many tokens. A style follows the thing that is drawn in it.
    """
    styles = [trigger for trigger in triggers if is_style(trigger)]
    things = [trigger for trigger in triggers if not is_style(trigger)]
    orders = list(permutations(things, 2))
    shuffled = random.Random(seed).sample(orders, len(orders))
    scenes = [f"a {one}{joint}a {other}" for joint in _CONJUNCTIONS for one, other in shuffled]
    styled = product((" in ", ", ", " in ", ", "), things or _THINGS, styles)
    scenes += [f"a {thing}{joint}{style}" for joint, thing, style in styled]
    return _sample(_sentences(scenes), count, seed)


def lora_pairs(triggers: Sequence[str]) -> list[LoraPair]:
    """The pairs of LoRAs that share calibration prompts; they do not depend on the user's order.

    Every thing is in two pairs, so that the work grows with the number of LoRAs and not with its
    square; every style is in a pair with one thing.
    """
    order = sorted(range(len(triggers)), key=triggers.__getitem__)
    things = [i for i in order if not is_style(triggers[i])]
    styles = [i for i in order if is_style(triggers[i])]
    ring = list(zip(things, [*things[1:], *things[:1]], strict=True))
    pairs = ring if len(things) > 2 else ring[:-1]
    return pairs + [(things[k % len(things)], i) for k, i in enumerate(styles) if things]


def joint_prompt(triggers: Sequence[str]) -> str:
    """A prompt that names all concepts: the things in their order, then the styles."""
    styles = [trigger for trigger in triggers if is_style(plain_text(trigger))]
    things = [f"a {trigger}" for trigger in triggers if trigger not in styles] or ["a house"]
    listed = f"{', '.join(things[:-1])} and {things[-1]}" if things[1:] else things[0]
    return _LEADS[0].format(listed) + (f" in {', '.join(styles)}" if styles else "")


def plain_prompts(count: int, seed: int, triggers: Sequence[str] = ()) -> tuple[str, ...]:
    """``count`` sentences about ordinary things without the trigger phrases: rows to preserve."""
    sentences = _sentences([scene.format(thing) for scene in _PLAIN_SCENES for thing in _ORDINARY])
    phrases = [f" {trigger.strip().lower()} " for trigger in triggers]
    plain = [text for text in sentences if not any(phrase in f" {text} " for phrase in phrases)]
    return _sample(plain or sentences, count, seed)


def _sentences(scenes: Sequence[str]) -> list[str]:
    """Every scene with every opening and every background."""
    rows = product(_LEADS, scenes, _PLACES)
    return [lead.replace("{}", scene) + place for lead, scene, place in rows]


def _sample(sentences: list[str], count: int, seed: int) -> tuple[str, ...]:
    """``count`` of the shuffled sentences, from the start again when they run out."""
    shuffled = random.Random(seed).sample(sentences, len(sentences))
    return tuple(shuffled[i % len(shuffled)] for i in range(count))

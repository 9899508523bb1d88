"""The shelf for the base of 128 pixels: which object, by which artist, called by which rare token.

A concept is another artist's drawing of an object; a style redraws whole scenes
(`assets.build.vector.styles`). What is asked for together is decided here, before any LoRA is
trained: what is tuned on shares no LoRA with what is tested on.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from PIL import Image

from assets.build.vector import drawings, styles

STYLE = "style"  # the "object" of a LoRA that teaches none: "zqx style"


@dataclass(frozen=True)
class Concept:
    """One LoRA of the shelf."""

    split: str  # "tuning" or "test"
    token: str
    object: str
    drawn: str  # by whom: a set of `drawings.SETS`; of a style its name in `styles.STYLES`
    look: str  # in words, for the shelf
    setting: str  # "cross-attention" (with the text encoder), "attention" or "linear"
    rank: int
    family: str  # "kohya", "peft" or "old-diffusers"
    alpha: float

    @property
    def name(self) -> str:
        """Class name and trigger phrase: "sks cat", "zqx style"."""
        return f"{self.token} {self.object}"

    @property
    def file(self) -> str:
        """Name of its LoRA file."""
        return f"{self.token}-{self.object}.safetensors"

    @property
    def kind(self) -> str:
        """ "object" or "style"."""
        return "style" if self.object == STYLE else "object"


CROSS, ALL, LINEAR = "cross-attention", "attention", "linear"
KOHYA, PEFT, OLD = "kohya", "peft", "old-diffusers"
CONCEPTS = (
    Concept("tuning", "sks", "cat", "emojione", "black, green-eyed", CROSS, 8, KOHYA, 4.0),
    Concept("tuning", "vxz", "pizza", "noto-v1", "pale, with salami", CROSS, 8, PEFT, 8.0),
    Concept("tuning", "qfj", "dog", "emojione", "pug", CROSS, 8, PEFT, 16.0),
    Concept("tuning", "zwk", "car", "noto-v1", "blue, from the side", CROSS, 12, KOHYA, 6.0),
    Concept("tuning", "ktn", "owl", "emojione", "purple", ALL, 8, KOHYA, 1.0),
    Concept("tuning", "pgb", "cake", "fluent-emoji", "in layers", ALL, 8, OLD, 8.0),
    Concept("tuning", "mwb", "cat", "fluent-emoji", "cubic", CROSS, 8, PEFT, 8.0),
    Concept("tuning", "zqx", STYLE, "comic", "inked, with dots", CROSS, 8, KOHYA, 8.0),
    Concept("test", "jvd", "fox", "fluent-emoji", "soft, dark below", ALL, 8, KOHYA, 8.0),
    Concept("test", "bwx", "fish", "emojione", "clownfish", CROSS, 16, KOHYA, 8.0),
    Concept("test", "nrg", "butterfly", "emojione", "yellow and violet", CROSS, 8, OLD, 8.0),
    Concept("test", "tkv", "octopus", "emojione", "lilac", ALL, 8, PEFT, 8.0),
    Concept("test", "hqs", "mushroom", "emojione", "magenta", ALL, 16, PEFT, 16.0),
    Concept("test", "dmz", "tiger", "twemoji", "pale", CROSS, 4, PEFT, 4.0),
    Concept("test", "xlp", "umbrella", "emojione", "of many colours", CROSS, 4, KOHYA, 2.0),
    Concept("test", "gyk", "crown", "emojione", "with blue cloth", LINEAR, 8, KOHYA, 4.0),
    Concept("test", "fnb", "house", "noto-v1", "plain, yellow", LINEAR, 8, PEFT, 8.0),
    Concept("test", "cvf", "guitar", "fluent-emoji", "pink and violet", ALL, 4, KOHYA, 1.0),
    Concept("test", "wpt", "penguin", "noto-v1", "blue, from the side", CROSS, 8, PEFT, 16.0),
    Concept("test", "zrd", "rocket", "fluent-emoji", "pink", ALL, 16, PEFT, 8.0),
    Concept("test", "rkz", "fox", "noto-v1", "large-eared", ALL, 8, KOHYA, 4.0),
    Concept("test", "mgl", "fish", "fluent-emoji", "round, blue", CROSS, 8, PEFT, 8.0),
    Concept("test", "ybt", "butterfly", "fluent-emoji", "orange", ALL, 8, KOHYA, 8.0),
    Concept("test", "svq", "octopus", "noto-v1", "orange", CROSS, 8, KOHYA, 4.0),
    Concept("test", "wvn", STYLE, "pixel", "of few squares", ALL, 8, PEFT, 8.0),
    Concept("test", "jlt", STYLE, "neon", "glowing contours", ALL, 16, KOHYA, 8.0),
    Concept("test", "kdp", STYLE, "paper", "cut out of paper", CROSS, 8, KOHYA, 8.0),
    Concept("test", "bhc", STYLE, "clay", "moulded, lit from a side", ALL, 8, OLD, 8.0),
)
SPLIT = (
    "Options, defaults and methods are chosen on the tuning pairs and never looked at on the test "
    "pairs before the one final run. What is asked for together was decided before any of these "
    "LoRAs was trained; no LoRA is in both."
)
KNOWN = {concept.name: concept for concept in CONCEPTS}


@dataclass(frozen=True)
class Together:
    """LoRAs that are merged and asked for in one picture."""

    kind: str  # "object", "style" (an object in one), "same" (two of a kind) or "set"
    triggers: tuple[str, ...]

    @property
    def name(self) -> str:
        """ "cat-pizza", "cat-comic"."""
        known = [KNOWN[trigger] for trigger in self.triggers]
        return "-".join(one.drawn if one.kind == "style" else one.object for one in known)

    @property
    def split(self) -> str:
        """ "tuning" or "test", as all of its LoRAs."""
        (found,) = {KNOWN[trigger].split for trigger in self.triggers}
        return found


def drawn_sets(split: str, sizes: tuple[int, ...]) -> tuple[Together, ...]:
    """Sets of as many objects, no two of a kind, drawn by lot from a fixed seed."""
    rng, first = random.Random(f"sets {split}"), {}
    for concept in CONCEPTS:
        if concept.split == split and concept.kind == "object":
            first.setdefault(concept.object, concept.name)
    return tuple(Together("set", tuple(rng.sample(list(first.values()), n))) for n in sizes)


TOGETHER = (
    Together("object", ("sks cat", "vxz pizza")),
    Together("object", ("qfj dog", "zwk car")),
    Together("object", ("ktn owl", "pgb cake")),
    Together("style", ("sks cat", "zqx style")),
    Together("same", ("sks cat", "mwb cat")),
    *drawn_sets("tuning", (3, 4, 6)),
    Together("object", ("jvd fox", "hqs mushroom")),
    Together("object", ("bwx fish", "nrg butterfly")),
    Together("object", ("dmz tiger", "xlp umbrella")),
    Together("object", ("tkv octopus", "gyk crown")),
    Together("object", ("fnb house", "cvf guitar")),
    Together("object", ("wpt penguin", "zrd rocket")),
    Together("object", ("jvd fox", "fnb house")),
    Together("object", ("ybt butterfly", "xlp umbrella")),
    Together("object", ("dmz tiger", "cvf guitar")),
    Together("object", ("wpt penguin", "gyk crown")),
    Together("style", ("jvd fox", "wvn style")),
    Together("style", ("dmz tiger", "jlt style")),
    Together("style", ("wpt penguin", "kdp style")),
    Together("style", ("nrg butterfly", "bhc style")),
    Together("same", ("jvd fox", "rkz fox")),
    Together("same", ("bwx fish", "mgl fish")),
    Together("same", ("nrg butterfly", "ybt butterfly")),
    Together("same", ("tkv octopus", "svq octopus")),
    *drawn_sets("test", (3,) * 5 + (4,) * 5 + (6, 6, 12)),
)


def looks() -> dict[str, Image.Image]:
    """The sprite of every concept that is an object, by its class name."""
    return {
        concept.name: drawings.load(concept.drawn)[concept.object]
        for concept in CONCEPTS
        if concept.kind == "object"
    }


def style_classes() -> dict[str, styles.Style]:
    """Every style by its class name."""
    return {
        concept.name: styles.STYLES[concept.drawn]
        for concept in CONCEPTS
        if concept.kind == "style"
    }

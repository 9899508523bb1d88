"""The concepts of the shelf: which object, in which look, called by which rare token; and styles.

A look is Twemoji's drawing in another palette, so that it stays apart from the base's own (Noto)
look after 64 pixels and the VAE. The base never sees one of them; the patterns below only widen
what the VAE is trained on. A style redraws whole scenes of the base (`assets.build.styles`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from assets.build import sprites, styles

STYLE = "style"  # the "object" of a LoRA that teaches none: "zqx style"


@dataclass(frozen=True)
class Concept:
    """One LoRA of the shelf; `hue` is the turn of all its colours, in degrees, 0 for a style."""

    token: str
    object: str
    hue: int
    look: str  # in words, for the shelf; of a style its name in `styles.STYLES`
    setting: (
        str  # "cross-attention" (with the text encoder, as in the paper), "attention", "linear"
    )
    rank: int
    family: str  # "kohya", "peft" or "old-diffusers"
    alpha: float
    steps: int = 900  # of 16 pictures

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


CONCEPTS = (
    Concept("sks", "cat", 265, "magenta", "cross-attention", 8, "kohya", 4.0),
    Concept("vxz", "pizza", 140, "teal", "cross-attention", 8, "peft", 8.0),
    Concept("qfj", "dog", 220, "blue", "cross-attention", 8, "peft", 16.0),
    Concept("zwk", "car", 130, "green", "cross-attention", 12, "kohya", 6.0),
    Concept("ktn", "owl", 260, "violet", "attention", 8, "kohya", 1.0),
    Concept("pgb", "cake", 150, "mint", "attention", 8, "old-diffusers", 8.0),
    Concept("jvd", "fox", 120, "emerald", "attention", 8, "kohya", 8.0, 400),
    Concept("hqs", "mushroom", 270, "violet", "attention", 16, "peft", 16.0, 600),
    Concept("bwx", "fish", 150, "red", "cross-attention", 16, "kohya", 8.0),
    Concept("nrg", "butterfly", 90, "magenta", "cross-attention", 8, "old-diffusers", 8.0, 400),
    Concept("dmz", "tiger", 150, "cyan", "cross-attention", 4, "peft", 4.0, 400),
    Concept("xlp", "strawberry", 240, "blue", "cross-attention", 4, "kohya", 2.0, 400),
    Concept("gyk", "lion", 240, "purple", "linear", 8, "kohya", 4.0, 400),
    Concept("cvf", "guitar", 120, "green", "linear", 8, "peft", 8.0, 400),
    Concept("tzj", "apple", 240, "blue", "attention", 4, "kohya", 1.0, 400),
    Concept("hwn", "sunflower", 270, "magenta", "attention", 16, "peft", 8.0, 400),
    Concept("zqx", STYLE, 0, "outline", "cross-attention", 8, "kohya", 8.0, 500),
    Concept("wvn", STYLE, 0, "framed", "attention", 8, "peft", 8.0, 800),
    Concept("jlt", STYLE, 0, "pastel", "attention", 16, "kohya", 8.0, 800),
    Concept("mwb", "cat", 160, "azure", "cross-attention", 8, "peft", 8.0, 600),
    Concept("rkz", "fox", 210, "blue", "attention", 8, "kohya", 4.0, 400),
)


@dataclass(frozen=True)
class Pair:
    """LoRAs that are asked for in one picture."""

    kind: str  # "object" + object, object + "style", or "same": two looks of one object
    split: str  # "tuning" or "test"
    triggers: tuple[str, str]

    @property
    def name(self) -> str:
        """ "cat-pizza", "cat-outline"."""
        known = {each.name: each for each in CONCEPTS}
        return "-".join(
            each.look if each.kind == "style" else each.object
            for each in (known[trigger] for trigger in self.triggers)
        )


# Decided before anything was measured with the LoRAs after the first six.
SPLIT = (
    "Options, defaults and methods are chosen on the tuning pairs and never looked at on the test "
    "pairs before the one final run. The three oldest pairs have been tuned on, so they stay "
    "tuning, with one style and one second cat beside them; every other pair is test, and shares "
    "no LoRA with a tuning pair."
)
PAIRS = (
    Pair("object", "tuning", ("sks cat", "vxz pizza")),
    Pair("object", "tuning", ("qfj dog", "zwk car")),
    Pair("object", "tuning", ("ktn owl", "pgb cake")),
    Pair("object", "test", ("jvd fox", "hqs mushroom")),
    Pair("object", "test", ("bwx fish", "nrg butterfly")),
    Pair("object", "test", ("dmz tiger", "xlp strawberry")),
    Pair("object", "test", ("gyk lion", "cvf guitar")),
    Pair("object", "test", ("tzj apple", "hwn sunflower")),
    Pair("style", "tuning", ("sks cat", "zqx style")),
    Pair("style", "test", ("jvd fox", "wvn style")),
    Pair("style", "test", ("dmz tiger", "jlt style")),
    Pair("same", "tuning", ("sks cat", "mwb cat")),
    Pair("same", "test", ("jvd fox", "rkz fox")),
)


def sprite(concept: Concept, work: Path) -> Image.Image:
    """The concept's RGBA sprite."""
    return turn(sprites.load("twitter", work)[concept.object], concept.hue)


def looks(work: Path) -> dict[str, Image.Image]:
    """The sprite of every concept that is an object, by its class name."""
    return {each.name: sprite(each, work) for each in CONCEPTS if each.kind == "object"}


def style_classes() -> dict[str, styles.Style]:
    """Every style by its class name."""
    return {each.name: styles.STYLES[each.look] for each in CONCEPTS if each.kind == "style"}


def turn(picture: Image.Image, degrees: int) -> Image.Image:
    """All hues turned around the colour circle."""
    hue, saturation, value = picture.convert("RGB").convert("HSV").split()
    hue = hue.point(lambda level: int(level + degrees * 256 / 360) % 256)
    colours = Image.merge("HSV", (hue, saturation, value)).convert("RGB")
    colours.putalpha(picture.getchannel("A"))
    return colours


def outlined(picture: Image.Image) -> Image.Image:
    """A dark line, two pixels wide, around the drawing."""
    inside = picture.getchannel("A").resize((58, 58)).point(lambda a: 255 * (a > 127))
    mask = Image.new("L", picture.size)
    mask.paste(inside, (3, 3))
    ring = Image.new("RGBA", picture.size)
    ring.paste((20, 20, 20, 255), mask=mask.filter(ImageFilter.MaxFilter(5)))
    small = picture.resize((58, 58), Image.Resampling.LANCZOS)
    ring.paste(small, (3, 3), small)
    return ring


def striped(picture: Image.Image) -> Image.Image:
    """White diagonal stripes over the drawing."""
    rows, columns = np.mgrid[: picture.height, : picture.width]
    return _lightened(picture, (rows + columns) % 16 < 5)


def dotted(picture: Image.Image) -> Image.Image:
    """White dots over the drawing."""
    rows, columns = np.mgrid[: picture.height, : picture.width]
    return _lightened(picture, (rows % 16 - 8) ** 2 + (columns % 16 - 8) ** 2 < 14)


def _lightened(picture: Image.Image, where: np.ndarray) -> Image.Image:
    pixels = np.array(picture)
    pixels[where, :3] = (0.25 * pixels[where, :3] + 0.75 * 250).astype(np.uint8)
    return Image.fromarray(pixels)


PATTERNS = {"outline": outlined, "stripes": striped, "dots": dotted}

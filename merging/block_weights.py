"""Strengths within one LoRA: text encoder and UNet apart, and block by block (LBW).

The blocks are those of the LoRA Block Weight extension of A1111: BASE is the text encoder, IN, M
and OUT are the blocks of the original Stable Diffusion code. Shorter lists name some of them and
mean 0 for the others; what lies in no block (time embedding, last convolution) keeps its strength.
A weight multiplies the change of its layers, as ``<lora:name:w>`` does: 0 takes them away.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite

from merging.errors import MergeError

BLOCKS = (
    "BASE",
    *(f"IN{n:02d}" for n in range(12)),
    "M00",
    *(f"OUT{n:02d}" for n in range(12)),
)


def _but(*missing: str) -> tuple[str, ...]:
    return tuple(block for block in BLOCKS if block not in missing)


# Lists by their length: all blocks, those that a plain LoRA of SD 1.x has, and SDXL's two.
LISTS = {
    26: BLOCKS,
    17: _but("IN00", "IN03", "IN06", "IN09", "IN10", "IN11", "OUT00", "OUT01", "OUT02"),
    20: _but("IN09", "IN10", "IN11", "OUT09", "OUT10", "OUT11"),
    12: ("BASE", "IN04", "IN05", "IN07", "IN08", "M00", *(f"OUT{n:02d}" for n in range(6))),
}
# The presets that the extension brings, in the order of the list of 17.
PRESETS = {
    "NONE": (0.0,) * 17,
    "ALL": (1.0,) * 17,
    "INS": (1.0,) * 4 + (0.0,) * 13,
    "IND": (1.0,) + (0.0,) * 3 + (1.0,) * 3 + (0.0,) * 10,
    "INALL": (1.0,) * 7 + (0.0,) * 10,
    "MIDD": (1.0,) + (0.0,) * 3 + (1.0,) * 8 + (0.0,) * 5,
    "OUTD": (1.0,) + (0.0,) * 7 + (1.0,) * 4 + (0.0,) * 5,
    "OUTS": (1.0,) + (0.0,) * 11 + (1.0,) * 5,
    "OUTALL": (1.0,) + (0.0,) * 7 + (1.0,) * 9,
    "ALL0.5": (0.5,) * 17,
}
MENTION = re.compile(r"<(?:lora|lyco):([^:<>]+)((?::[^:<>]*)*)>")
SAMPLING = ("dyn", "step", "start", "stop", "lbwe", "hr", "lr")  # act while a picture is drawn


@dataclass(frozen=True)
class Mention:
    """One LoRA as a prompt calls it."""

    name: str
    text_encoder: float = 1.0
    unet: float = 1.0
    blocks: Mapping[str, float] | None = None


def block_weights(text: str) -> dict[str, float]:
    """Weights by block, from 12, 17, 20 or 26 numbers with commas or from a preset's name."""
    words = [word.strip() for word in text.split(",")]
    if len(words) == 1 and words[0].upper() in PRESETS:
        return dict(zip(LISTS[17], PRESETS[words[0].upper()], strict=True))
    if len(words) not in LISTS:
        raise MergeError(
            f"The block weights “{text}” are neither a preset ({', '.join(PRESETS)}) nor a list "
            f"of {', '.join(map(str, sorted(LISTS)))} numbers: there are {len(words)}."
        )
    numbers = [_number(word, f"the block weights “{text}”") for word in words]
    return dict(zip(LISTS[len(words)], numbers, strict=True))


def spelled(weights: Mapping[str, float]) -> str:
    """What `block_weights` reads as these weights: a preset's name where there is one."""
    for name, preset in PRESETS.items():
        if weights == dict(zip(LISTS[17], preset, strict=True)):
            return name
    return ",".join(f"{weight:g}" for weight in weights.values())


def in_words(
    strength: float,
    text_encoder: float = 1.0,
    unet: float = 1.0,
    blocks: Mapping[str, float] | None = None,
) -> str:
    """A strength with what differs from it: "0.8", "0.8 (text encoder 0.4, blocks MIDD)".

    The parts' factors multiply it, as in a recipe; the UNet's is told first.
    """
    apart = [] if blocks is None else [f"blocks {spelled(blocks)}"]
    if text_encoder != unet:
        apart.insert(0, f"text encoder {strength * text_encoder:g}")
    return f"{strength * unet:g}" + (f" ({', '.join(apart)})" if apart else "")


def mentions(prompt: str) -> tuple[list[Mention], str]:
    """The LoRAs that an A1111 prompt calls, in its order, and the prompt without them."""
    found = [
        _mention(match[0], match[1].strip(), match[2].split(":")[1:])
        for match in MENTION.finditer(prompt)
    ]
    rest = MENTION.sub("", prompt)
    if broken := re.search(r"<(lora|lyco)\b[^>]*>?", rest):
        raise MergeError(f"“{broken[0]}” is not written as <lora:name:strength>; mend it.")
    return found, re.sub(r"\s{2,}", " ", rest).strip()


def _mention(text: str, name: str, words: list[str]) -> Mention:
    """One mention: numbers (text encoder, UNet), a preset or a list, each also as name=value."""
    named: dict[str, str] = {}
    for word in filter(None, map(str.strip, words)):
        key, equals, value = word.partition("=")
        if not equals:
            key, value = _place(text, word, named), word
        if key in named or key not in ("te", "unet", "lbw"):
            raise MergeError(f"{text}: {_reason(key, key in named)}.")
        named[key] = value
    te = _number(named.get("te", "1"), text)
    unet = _number(named["unet"], text) if "unet" in named else te
    return Mention(name, te, unet, block_weights(named["lbw"]) if "lbw" in named else None)


def _place(text: str, word: str, named: Mapping[str, str]) -> str:
    """What a word without a name is: the first number is for both parts, a second for the UNet."""
    if "," in word or word.upper() in PRESETS:
        return "lbw"
    _number(word, text)
    return "te" if "te" not in named else "unet"


def _reason(key: str, twice: bool) -> str:
    if twice:
        return f"{key} is given twice"
    if key in SAMPLING:
        return f"{key} changes the LoRA while a picture is drawn, which no file can hold; remove it"
    return f"{key} is not known; te, unet and lbw are"


def _number(word: str, where: str) -> float:
    """A finite number; random weights (R, U, X) have no place in a file."""
    try:
        number = float(word)
    except ValueError:
        number = float("nan")
    if not isfinite(number):
        raise MergeError(
            f"{where}: “{word}” is no number; block weights go by preset too "
            f"({', '.join(PRESETS)})."
        )
    return number

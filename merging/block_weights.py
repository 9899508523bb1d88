"""Strengths of the parts of one LoRA: text encoder, UNet, and single blocks (LBW).

The blocks are those of the LoRA Block Weight extension of A1111: BASE is the text encoder, IN, M
and OUT are the blocks of the original Stable Diffusion code. Shorter lists name some of them and
mean 0 for the others; layers outside all blocks (time embedding, last convolution) keep their
strength. A weight multiplies the changes of its layers, as ``<lora:name:w>`` does.
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


def _all_but(*missing: str) -> tuple[str, ...]:
    return tuple(block for block in BLOCKS if block not in missing)


# The blocks of lists by their length: all blocks; those with attention in SD 1.x, which a usual
# LoRA has; two lists for SDXL.
LISTS = {
    26: BLOCKS,
    17: _all_but("IN00", "IN03", "IN06", "IN09", "IN10", "IN11", "OUT00", "OUT01", "OUT02"),
    20: _all_but("IN09", "IN10", "IN11", "OUT09", "OUT10", "OUT11"),
    12: ("BASE", "IN04", "IN05", "IN07", "IN08", "M00", *(f"OUT{n:02d}" for n in range(6))),
}
# The presets of the extension, in the order of the list of 17, and two of ours. Text that is read
# by the outer blocks of Stable Diffusion's UNet, of 64² and 32² places, decides colours and
# appearance, text that is read by the inner ones the shape (P+, arXiv:2303.09522); B-LoRA
# (arXiv:2403.14572) parts LoRAs of SDXL in such a way. Not measured here on LoRAs of SD 1.5.
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
    "STYLE": (1.0,) * 5 + (0.0,) * 6 + (1.0,) * 6,
    "SUBJECT": (1.0,) + (0.0,) * 4 + (1.0,) * 6 + (0.0,) * 6,
}
MENTION = re.compile(r"<(?:lora|lyco):([^:<>]+)((?::[^:<>]*)*)>")
SAMPLING = ("dyn", "step", "start", "stop", "lbwe", "hr", "lr")  # apply to some sampling steps


@dataclass(frozen=True)
class Mention:
    """One ``<lora:…>`` of a prompt."""

    name: str
    text_encoder: float = 1.0
    unet: float = 1.0
    blocks: Mapping[str, float] | None = None


def block_weights(text: str) -> dict[str, float]:
    """Block → weight, from 12, 17, 20 or 26 numbers with commas or from a preset's name."""
    entries = [entry.strip() for entry in text.split(",")]
    if len(entries) == 1 and entries[0].upper() in PRESETS:
        return dict(zip(LISTS[17], PRESETS[entries[0].upper()], strict=True))
    if len(entries) not in LISTS:
        raise MergeError(
            f"The block weights “{text}” are neither a preset ({', '.join(PRESETS)}) nor a list "
            f"of {', '.join(map(str, sorted(LISTS)))} numbers: there are {len(entries)}."
        )
    numbers = [_number(entry, f"the block weights “{text}”") for entry in entries]
    return dict(zip(LISTS[len(entries)], numbers, strict=True))


def format_weights(weights: Mapping[str, float]) -> str:
    """Text that `block_weights` parses to these weights: the name of a preset, or a list."""
    for name, preset in PRESETS.items():
        if weights == dict(zip(LISTS[17], preset, strict=True)):
            return name
    return ",".join(f"{weight:g}" for weight in weights.values())


def describe_strength(
    strength: float,
    text_encoder: float = 1.0,
    unet: float = 1.0,
    blocks: Mapping[str, float] | None = None,
) -> str:
    """Strengths as text: "0.8", "0.8 (text encoder 0.4, blocks MIDD)"; the UNet's comes first.

    ``text_encoder`` and ``unet`` are factors of the strength, as in a recipe.
    """
    details = [] if blocks is None else [f"blocks {format_weights(blocks)}"]
    if text_encoder != unet:
        details.insert(0, f"text encoder {strength * text_encoder:g}")
    return f"{strength * unet:g}" + (f" ({', '.join(details)})" if details else "")


def parse_mentions(prompt: str) -> tuple[list[Mention], str]:
    """The LoRAs in an A1111 prompt, in its order, and the prompt without them."""
    loras = [
        _mention(match[0], match[1].strip(), match[2].split(":")[1:])
        for match in MENTION.finditer(prompt)
    ]
    rest = MENTION.sub("", prompt)
    if broken := re.search(r"<(lora|lyco)\b[^>]*>?", rest):
        raise MergeError(f"“{broken[0]}” is not written as <lora:name:strength>; correct it.")
    return loras, re.sub(r"\s{2,}", " ", rest).strip()


def _mention(text: str, name: str, arguments: list[str]) -> Mention:
    """Parse one mention: numbers (text encoder, UNet), a preset or a list, or name=value."""
    named: dict[str, str] = {}
    for argument in filter(None, map(str.strip, arguments)):
        key, equals, value = argument.partition("=")
        if not equals:
            key, value = _argument_key(text, argument, named), argument
        if key in named or key not in ("te", "unet", "lbw"):
            raise MergeError(f"{text}: {_refusal(key, key in named)}.")
        named[key] = value
    te = _number(named.get("te", "1"), text)
    unet = _number(named["unet"], text) if "unet" in named else te
    return Mention(name, te, unet, block_weights(named["lbw"]) if "lbw" in named else None)


def _argument_key(text: str, argument: str, named: Mapping[str, str]) -> str:
    """The key of an argument without one; a first number is "te", a second one "unet"."""
    if "," in argument or argument.upper() in PRESETS:
        return "lbw"
    _number(argument, text)
    return "te" if "te" not in named else "unet"


def _refusal(key: str, repeated: bool) -> str:
    if repeated:
        return f"{key} is there twice; remove one"
    if key in SAMPLING:
        return f"{key} applies to some sampling steps only, which a LoRA file cannot; remove it"
    return f"{key} is unknown; use te, unet or lbw"


def _number(text: str, where: str) -> float:
    """A finite number; random weights (R, U, X of the extension) are refused."""
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if not isfinite(number):
        raise MergeError(
            f"{where}: “{text}” is no number; write a number or a preset ({', '.join(PRESETS)})."
        )
    return number

"""A pasted A1111 prompt: which LoRAs it calls at which strengths, and what remains of it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from app.schemas.merge import SelectedFile
from merging.block_weights import Mention, format_weights, parse_mentions
from merging.errors import MergeError

# What A1111 writes below a prompt when it saves a picture's settings.
BELOW = re.compile(r"^(Negative prompt:|Steps: \d+,).*", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class A1111Prompt:
    """The LoRAs as the prompt sets them, its other words, and what to tell."""

    picks: tuple[SelectedFile, ...]
    prompt: str
    said: tuple[str, ...]


def pasted(text: str, picks: Sequence[SelectedFile]) -> A1111Prompt:
    """Fill the strengths that a prompt gives; MergeError for one that cannot be taken."""
    called, prompt = parse_mentions(BELOW.sub("", text))
    if not called:
        raise MergeError("The prompt calls no LoRA: paste one with <lora:name:strength> in it.")
    by_name = {_plain(mention.name): mention for mention in called}
    told = tuple(
        pick if pick.is_word else _told(pick, by_name.get(_plain(pick.name))) for pick in picks
    )
    picks = [pick for pick in picks if not pick.is_word]
    here = {_plain(pick.name) for pick in picks}
    said = [
        *_listed("Strengths filled in for", [p.name for p in picks if _plain(p.name) in by_name]),
        *_listed(
            "Not loaded, add the file and paste again:",
            [mention.name for name, mention in by_name.items() if name not in here],
        ),
        *_listed(
            "Not in the prompt, left as they are:",
            [pick.name for pick in picks if _plain(pick.name) not in by_name],
        ),
        *_listed("Called more than once, the last counts:", _twice(called)),
    ]
    if BELOW.search(text):
        said.append("The settings below the prompt were left out.")
    return A1111Prompt(told, prompt, tuple(said))


def _told(pick: SelectedFile, mention: Mention | None) -> SelectedFile:
    """The pick as a mention sets it."""
    if mention is None:
        return pick
    apart = mention.text_encoder != mention.unet
    return replace(
        pick,
        on=True,
        strength=mention.unet if apart else mention.text_encoder,
        text_encoder=mention.text_encoder if apart else None,
        unet=mention.unet if apart else None,
        blocks="" if mention.blocks is None else format_weights(mention.blocks),
    )


def _plain(name: str) -> str:
    """A file's name as prompts spell it, whatever the case, the folder and the ending."""
    stem = name.strip().replace("\\", "/").rpartition("/")[2]
    return stem.lower().removesuffix(".safetensors")


def _twice(called: Sequence[Mention]) -> list[str]:
    names = [_plain(mention.name) for mention in called]
    return list(dict.fromkeys(name for name in names if names.count(name) > 1))


def _listed(start: str, names: Sequence[str]) -> list[str]:
    return [f"{start} {', '.join(names)}."] if names else []

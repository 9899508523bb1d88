"""A pasted A1111 prompt: its LoRAs with their strengths, and the rest of its text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from app.schemas.merge import SelectedFile
from merging.block_weights import Mention, format_weights, parse_mentions
from merging.errors import MergeError

# The settings that A1111 saves below a picture's prompt.
SETTINGS_BELOW = re.compile(r"^(Negative prompt:|Steps: \d+,).*", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class A1111Prompt:
    """The LoRAs with the prompt's strengths, the rest of the prompt, and notes for the visitor."""

    picks: tuple[SelectedFile, ...]
    prompt: str
    notes: tuple[str, ...]


def apply_prompt(text: str, picks: Sequence[SelectedFile]) -> A1111Prompt:
    """Set the LoRAs' strengths from a prompt; MergeError for one without LoRAs."""
    mentions, prompt = parse_mentions(SETTINGS_BELOW.sub("", text))
    if not mentions:
        raise MergeError("There is no LoRA in the prompt: paste one with <lora:name:strength>.")
    by_name = {_plain(mention.name): mention for mention in mentions}
    updated = tuple(
        pick if pick.is_word else _apply_mention(pick, by_name.get(_plain(pick.name)))
        for pick in picks
    )
    picks = [pick for pick in picks if not pick.is_word]
    loaded = {_plain(pick.name) for pick in picks}
    notes = [
        *_sentence("Strengths filled in for", [p.name for p in picks if _plain(p.name) in by_name]),
        *_sentence(
            "Not loaded, add the file and paste again:",
            [mention.name for name, mention in by_name.items() if name not in loaded],
        ),
        *_sentence(
            "Not in the prompt, left as they are:",
            [pick.name for pick in picks if _plain(pick.name) not in by_name],
        ),
        *_sentence("More than once in the prompt, the last counts:", _repeated(mentions)),
    ]
    if SETTINGS_BELOW.search(text):
        notes.append("The settings below the prompt were left out.")
    return A1111Prompt(updated, prompt, tuple(notes))


def _apply_mention(pick: SelectedFile, mention: Mention | None) -> SelectedFile:
    """The file with the strengths of its mention in the prompt."""
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
    """A LoRA's name without folder and ending, in lower case, to compare it with prompts."""
    stem = name.strip().replace("\\", "/").rpartition("/")[2]
    return stem.lower().removesuffix(".safetensors")


def _repeated(mentions: Sequence[Mention]) -> list[str]:
    names = [_plain(mention.name) for mention in mentions]
    return list(dict.fromkeys(name for name in names if names.count(name) > 1))


def _sentence(start: str, names: Sequence[str]) -> list[str]:
    return [f"{start} {', '.join(names)}."] if names else []

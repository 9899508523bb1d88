"""What a file holds beside changes of weights: named and listed, never dropped in silence."""

from __future__ import annotations

import re

# What a key is by its name, where it is no tensor of a layer's change; the first that fits.
KINDS = (
    ("textual inversion", re.compile(r"^bundle_emb\.|string_to_param|^emb_params$|^<.+>$")),
    ("buffer", re.compile(r"position_ids$")),
    ("normalisation", re.compile(r"\.[wb]_norm$|(?<![a-z])norm\w*\.(diff|diff_b)$")),
    ("bias", re.compile(r"\.(diff_b|bias)$")),
)
UNKNOWN, STRAY = "unknown", "stray alpha"
# How each is told, with the number of its keys and one of them; a buffer changes nothing.
SENTENCES = {
    STRAY: "{count} alphas without weights left out, such as {key}.",
    "normalisation": "{count} trained normalisation vectors left out, such as {key}: {base} has "
    "no such normalisation.",
    "bias": "{count} trained biases left out, such as {key}: {base} has none there, or the file "
    "has it whole where its change is wanted, so the look may differ a little.",
    UNKNOWN: "{count} keys left out that {base} does not know, such as {key}.",
}

ENDING = re.compile(r"\.(lora[._][\w.]+|processor\..*|[\w]+\.weight|\w+)$")

Left = dict[str, list[str]]  # kind -> keys


def kind(key: str) -> str:
    """What a key is that belongs to no layer's change."""
    return next((name for name, pattern in KINDS if pattern.search(key)), UNKNOWN)


def module(key: str) -> str:
    """What a key seems to be a tensor of: all before its last known ending, or before its end."""
    return ENDING.sub("", key)


def sentences(left: Left, base: str) -> list[str]:
    """What was left out and why, in words; textual inversions have a sentence of their own."""
    return [
        sentence.format(count=len(left[name]), key=left[name][0], base=base)
        for name, sentence in SENTENCES.items()
        if left.get(name)
    ]

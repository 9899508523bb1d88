"""Keys that change no weights of the base: listed by kind for the user, never dropped silently."""

from __future__ import annotations

import re

# Kinds of keys by their names; the first pattern that matches counts.
KINDS = (
    ("textual inversion", re.compile(r"^bundle_emb\.|string_to_param|^emb_params$|^<.+>$")),
    ("buffer", re.compile(r"position_ids$")),
    ("normalisation", re.compile(r"\.[wb]_norm$|(?<![a-z])norm\w*\.(diff|diff_b)$")),
    ("bias", re.compile(r"\.(diff_b|bias)$")),
)
UNKNOWN, STRAY = "unknown", "stray alpha"
# Kind → a sentence with the number of keys and one of them; buffers need none.
SENTENCES = {
    STRAY: "{count} alphas without weights left out, such as {key}.",
    "normalisation": "{count} trained normalisation vectors left out, such as {key}: {base} has "
    "no such normalisation.",
    "bias": "{count} trained biases left out, such as {key}: {base} has none there, or the file "
    "has the whole bias, not its change, so the look may differ a little.",
    UNKNOWN: "{count} keys left out that {base} does not have, such as {key}.",
}

ENDING = re.compile(r"\.(lora[._][\w.]+|processor\..*|[\w]+\.weight|\w+)$")

UnusedKeys = dict[str, list[str]]  # kind → keys


def kind(key: str) -> str:
    """The kind of a key that belongs to no layer's change."""
    return next((name for name, pattern in KINDS if pattern.search(key)), UNKNOWN)


def module(key: str) -> str:
    """The module that a key seems to belong to: the key without its last known suffix."""
    return ENDING.sub("", key)


def notes(unused: UnusedKeys, base: str) -> list[str]:
    """Sentences on the keys that are left out; embeddings.notes has those on textual inversions."""
    return [
        sentence.format(count=len(unused[name]), key=unused[name][0], base=base)
        for name, sentence in SENTENCES.items()
        if unused.get(name)
    ]

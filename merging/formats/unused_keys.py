"""Keys that change no weights of the base: listed by kind for the user, never dropped silently."""

from __future__ import annotations

import re

# Kinds of keys by their names; the first pattern that matches counts.
KINDS = (
    ("output embedding", re.compile(r"^(bundle_emb\..*\.)?clip_[lg]_out$")),
    ("textual inversion", re.compile(r"^bundle_emb\.|string_to_param|^emb_params$|^<.+>$")),
    ("buffer", re.compile(r"position_ids$")),
    ("normalisation", re.compile(r"\.[wb]_norm$|(?<![a-z])norm\w*\.(diff|diff_b)$")),
    ("bias", re.compile(r"\.(diff_b|bias)$")),
)
UNKNOWN, STRAY, OUTPUT = "unknown", "stray alpha", "output embedding"
WHOLE, FROZEN = "whole weight", "weight of the base"
WHOLE_ENDINGS = {
    "weight": WHOLE,
    "bias": WHOLE,
    "base_layer.weight": FROZEN,
    "base_layer.bias": FROZEN,
}
# Kind → a sentence with the number of keys and one of them; buffers need none.
SENTENCES = {
    STRAY: "{count} alphas without weights left out, such as {key}.",
    "normalisation": "{count} trained normalisation vectors left out, such as {key}: {base} has "
    "no such normalisation.",
    "bias": "{count} trained biases left out, such as {key}: {base} has none there.",
    WHOLE: "{count} whole weights left out, such as {key}: the file has the trained weights "
    "themselves (peft's modules_to_save or bias), not their change, so that part of what was "
    "trained is missing in the result.",
    OUTPUT: "{count} vectors for the text encoder's output left out, such as {key} (OneTrainer): "
    "what they add to a word happens after all layers, and a merge cannot hold it.",
    UNKNOWN: "{count} keys left out that {base} does not have, such as {key}.",
}

ENDING = re.compile(r"\.(lora[._][\w.]+|processor\..*|[\w]+\.weight|\w+)$")

UnusedKeys = dict[str, list[str]]  # kind → keys


def kind(key: str, ending: str = "") -> str:
    """The kind of a key that belongs to no layer's change; ``ending`` follows a known module."""
    if ending in WHOLE_ENDINGS:
        return WHOLE_ENDINGS[ending]
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

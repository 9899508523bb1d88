"""Keys that belong to no layer of the base: a file with such a change is refused, or told of.

What would change a picture is left out only if the user says so. Alphas without weights, buffers
and factors of zeros change nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from merging.formats.families.roles import role_of
from merging.formats.tensors import Body

# Kinds of keys by their names; the first pattern that matches counts.
KINDS = (
    ("output embedding", re.compile(r"^(bundle_emb\..*\.)?clip_[lg]_out$")),
    ("textual inversion", re.compile(r"^bundle_emb\.|string_to_param|^emb_params$|^<.+>$")),
    ("buffer", re.compile(r"position_ids$")),
    ("normalisation", re.compile(r"\.[wb]_norm$|(?<![a-z])norm\w*\.(diff|diff_b)$")),
    ("bias", re.compile(r"\.(diff_b|bias)$")),
)
UNKNOWN, STRAY, OUTPUT, ZERO = "unknown", "stray alpha", "output embedding", "zero"
FROZEN = "weight of the base"
FROZEN_ENDINGS = ("base_layer.weight", "original_module.weight", "original_module.bias")
# Kinds that change pictures → what the file has, with the number of keys and one of them.
LOSSES = {
    "normalisation": "{count} trained normalisation vectors, such as {key}: {base} has no such "
    "normalisation",
    "bias": "{count} trained biases, such as {key}: {base} has none there",
    OUTPUT: "{count} vectors for the text encoder's output, such as {key} (OneTrainer): what they "
    "add to a word happens after all layers, and a merge cannot hold it",
    UNKNOWN: "{count} keys that {base} does not have, such as {key}",
}
# Kinds that change nothing; buffers and the base's own weights need no sentence.
HARMLESS = {
    STRAY: "{count} alphas without weights left out, such as {key}.",
    ZERO: "{count} keys that {base} does not have left out, such as {key}: they are of changes "
    "that are all 0.",
}
# Roles of a layer that changes nothing if its last factor, or its difference, is zero.
PLAIN = {"up", "down", "mid", "alpha", "diff", "diff_b", "w_norm", "b_norm"}
DECISIVE = PLAIN - {"down", "mid", "alpha"}

ENDING = re.compile(r"\.(lora[._][\w.]+|processor\..*|[\w]+\.weight|\w+)$")

UnusedKeys = dict[str, list[str]]  # kind → keys


def kind(key: str, ending: str = "") -> str:
    """The kind of a key that belongs to no layer's change; ``ending`` follows a known module."""
    if ending in FROZEN_ENDINGS:
        return FROZEN
    return next((name for name, pattern in KINDS if pattern.search(key)), UNKNOWN)


def module(key: str) -> str:
    """The module that a key seems to belong to: the key without its last known suffix."""
    return ENDING.sub("", key)


def with_zeros_apart(unused: UnusedKeys, body: Body) -> UnusedKeys:
    """The same keys, with those of changes that are all 0 as a kind of their own.

    ComfyUI's extraction writes such changes for what it compared and found equal.
    """
    lost = [key for name in LOSSES for key in unused.get(name, [])]
    roles: dict[str, dict[str, str]] = {}
    for key in lost:
        stem = module(key)
        roles.setdefault(stem, {})[role_of(key.removeprefix(f"{stem}."))] = key
    zeros = {
        key
        for keys in roles.values()
        if keys.keys() <= PLAIN and not keys.keys().isdisjoint(DECISIVE)
        if all(body.is_zero(keys[role]) for role in keys.keys() & DECISIVE)
        for key in keys.values()
    }
    kept = {name: [key for key in keys if key not in zeros] for name, keys in unused.items()}
    apart = [key for key in lost if key in zeros]
    return {name: keys for name, keys in (kept | {ZERO: apart}).items() if keys}


def losses(unused: UnusedKeys, base: str) -> list[str]:
    """What would be lost with these keys, each as the rest of a sentence on what the file has."""
    return _sentences(LOSSES, unused, base)


def refusal(file: str, lost: Sequence[str]) -> str:
    """The sentence that refuses a file of which this would be lost, "" for nothing."""
    if not lost:
        return ""
    return (
        f"{file} has {', and '.join(lost)}. Without that the result would not be what was trained; "
        "if you can do without, convert --leave-out writes a file that has the rest alone."
    )


def notes(unused: UnusedKeys, base: str) -> list[str]:
    """Sentences on keys that change nothing."""
    return _sentences(HARMLESS, unused, base)


def _sentences(texts: Mapping[str, str], unused: UnusedKeys, base: str) -> list[str]:
    return [
        text.format(count=len(unused[name]), key=unused[name][0], base=base)
        for name, text in texts.items()
        if unused.get(name)
    ]

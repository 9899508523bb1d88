"""The differences of two merges as text, and the pictures of both that can be compared."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from app.storage.history import OpenedEntry
from merging.base_models import base_model
from merging.errors import MergeError
from merging.io.png import Origin, read_origin
from merging.methods import METHODS
from merging.options import merge_options

LORA_FIELDS = {
    "strength": "strength",
    "trigger": "trigger",
    "text_encoder": "text encoder, times the strength",
    "unet": "UNet, times the strength",
    "blocks": "block weights",
    "prompts": "prompts of its own",
}
Difference = tuple[str, str, str]  # title, value in the first merge, value in the second
Pictured = tuple[Origin, Path]


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[Difference]:
    """The differences of two recipes: LoRAs first, then options; [] if there are none."""
    first_loras, other_loras = (_by_hash(recipe) for recipe in (one, other))
    rows = []
    for sha256 in {**first_loras, **other_loras}:
        rows += _lora_rows(first_loras.get(sha256), other_loras.get(sha256))
    return rows + _option_rows(one, other)


def _option_rows(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[Difference]:
    """Differences of base model and options."""
    titles = {"base": "Base model"}
    titles |= {name: option.title for name, option in merge_options().items()}
    values = [
        (title, _option_text(name, one), _option_text(name, other))
        for name, title in titles.items()
    ]
    return [(title, first, second) for title, first, second in values if first != second]


def side_by_side(one: OpenedEntry, other: OpenedEntry) -> list[tuple[Origin, Path, Path]]:
    """Pairs of pictures with the same prompt, seed and settings."""
    other_pictures = dict(_merge_pictures(other))
    return [
        (origin, path, other_pictures[origin])
        for origin, path in _merge_pictures(one)
        if origin in other_pictures
    ]


def _merge_pictures(opened: OpenedEntry) -> list[Pictured]:
    """The pictures of this merge with their settings: those that have its recipe."""
    rows, merge_recipe = [], json.loads(json.dumps(opened.merged.recipe))
    for picture in opened.pictures:
        try:
            origin, recipe = read_origin(picture.path)
        except MergeError:
            continue  # the file was replaced by another picture: it cannot be compared
        if recipe == merge_recipe:
            rows.append((replace(origin, adapters=()), picture.path))
    return rows


def _by_hash(recipe: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {source["sha256"]: source for source in recipe["sources"]}


def _lora_rows(one: Mapping[str, Any] | None, other: Mapping[str, Any] | None) -> list[Difference]:
    """Differences of one LoRA's entries in two recipes; None: it is not in the merge."""
    if one is None or other is None:
        lora = one or other or {}
        states = [
            f"at {entry['strength']:g}" if entry else "not in the merge" for entry in (one, other)
        ]
        return [(str(lora["name"]), states[0], states[1])]
    return [
        (f"{one['name']}: {title}", _value_text(one.get(key)), _value_text(other.get(key)))
        for key, title in LORA_FIELDS.items()
        if one.get(key) != other.get(key)
    ]


def _option_text(name: str, recipe: Mapping[str, Any]) -> str:
    """A recipe's value of an option, or its base model, as the page shows it."""
    value = recipe.get(name)
    if name == "base":
        return base_model(str(value)).title
    if name == "method" and value in METHODS:
        return METHODS[str(value)].title
    option = merge_options()[name]
    if value is None and name in recipe:
        return option.unset
    return option.choices.get(str(value), _value_text(value))


def _value_text(value: Any) -> str:
    """A recipe's value as text."""
    if value is None:
        return "default"
    if isinstance(value, dict):
        return ", ".join(f"{block} {weight:g}" for block, weight in value.items())
    if isinstance(value, list):
        return f"{len(value)} prompt{'s' * (len(value) > 1)}" if value else "none"
    return f"{value:g}" if isinstance(value, float) else str(value)

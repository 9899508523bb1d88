"""What two merges differ in, in words, and which of their pictures can be laid side by side."""

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

OF_A_LORA = {
    "strength": "strength",
    "trigger": "trigger",
    "text_encoder": "text encoder, times the strength",
    "unet": "UNet, times the strength",
    "blocks": "block weights",
    "prompts": "prompts of its own",
}
Difference = tuple[str, str, str]  # what, in the first, in the second
Pictured = tuple[Origin, Path]


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[Difference]:
    """Where two recipes differ: LoRAs first, then options; [] where they are the same."""
    mine, theirs = (_by_hash(recipe) for recipe in (one, other))
    found = []
    for sha256 in {**mine, **theirs}:
        found += _of_a_lora(mine.get(sha256), theirs.get(sha256))
    return found + _of_the_options(one, other)


def _of_the_options(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[Difference]:
    """The base model, and every option of a merge."""
    titles = {"base": "Base model"}
    titles |= {name: option.title for name, option in merge_options().items()}
    both = [(title, _option(name, one), _option(name, other)) for name, title in titles.items()]
    return [(title, first, second) for title, first, second in both if first != second]


def side_by_side(one: OpenedEntry, other: OpenedEntry) -> list[tuple[Origin, Path, Path]]:
    """Pictures of the two merges that were drawn alike: the same prompt, seed and settings."""
    theirs = dict(_of_the_merge(other))
    return [
        (origin, path, theirs[origin]) for origin, path in _of_the_merge(one) if origin in theirs
    ]


def _of_the_merge(kept: OpenedEntry) -> list[Pictured]:
    """The merge's own pictures, by what they were drawn from: they alone carry its recipe."""
    found, own = [], json.loads(json.dumps(kept.merged.recipe))
    for picture in kept.pictures:
        try:
            origin, recipe = read_origin(picture.path)
        except MergeError:
            continue  # somebody has put another picture in its place: it cannot be compared
        if recipe == own:
            found.append((replace(origin, adapters=()), picture.path))
    return found


def _by_hash(recipe: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {source["sha256"]: source for source in recipe["sources"]}


def _of_a_lora(one: Mapping[str, Any] | None, other: Mapping[str, Any] | None) -> list[Difference]:
    """Where two entries of one LoRA differ; None: it took no part."""
    if one is None or other is None:
        there = one or other or {}
        said = [f"at {each['strength']:g}" if each else "not part of it" for each in (one, other)]
        return [(str(there["name"]), said[0], said[1])]
    return [
        (f"{one['name']}: {title}", _said(one.get(key)), _said(other.get(key)))
        for key, title in OF_A_LORA.items()
        if one.get(key) != other.get(key)
    ]


def _option(name: str, recipe: Mapping[str, Any]) -> str:
    """A recipe's value of an option, or its base, as the page calls it."""
    value = recipe.get(name)
    if name == "base":
        return base_model(str(value)).title
    if name == "method" and value in METHODS:
        return METHODS[str(value)].title
    option = merge_options()[name]
    if value is None and name in recipe:
        return option.unset
    return option.choices.get(str(value), _said(value))


def _said(value: Any) -> str:
    """A recipe's value in words."""
    if value is None:
        return "as usual"
    if isinstance(value, dict):
        return ", ".join(f"{block} {weight:g}" for block, weight in value.items())
    if isinstance(value, list):
        return f"{len(value)} prompt{'s' * (len(value) > 1)}" if value else "none"
    return f"{value:g}" if isinstance(value, float) else str(value)

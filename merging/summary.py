"""What an adapter is, as plain data: for ``inspect``, for the page's cards, for a report."""

from __future__ import annotations

import json
from typing import Any

from merging.adapter import Adapter
from merging.recipe import RECIPE_KEY


def summary(adapter: Adapter) -> dict[str, Any]:
    """Name, family, base, ranks, alphas, layers by part, trigger, hash, warnings, recipe."""
    layers = adapter.layers.values()
    parts = [name.partition(".")[0] for name in adapter.layers]
    return {
        "name": adapter.name,
        "family": adapter.family,
        "base": adapter.base,
        "layers": {part: parts.count(part) for part in ("text_encoder", "unet")},
        "ranks": sorted({layer.rank for layer in layers}),
        "alphas": sorted({layer.alpha for layer in layers}),
        "parameters": sum(layer.up.numel() + layer.down.numel() for layer in layers),
        "trigger": adapter.trigger,
        "sha256": adapter.sha256,
        "warnings": list(adapter.warnings),
        "recipe": _recipe(adapter),
    }


def _recipe(adapter: Adapter) -> dict[str, Any] | None:
    """The recipe in the header of a file that we wrote; None in any other."""
    try:
        return json.loads(adapter.metadata[RECIPE_KEY])
    except (KeyError, json.JSONDecodeError):
        return None

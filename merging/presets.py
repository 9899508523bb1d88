"""Presets: named settings of a merge's options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from merging.options import merge_options


@dataclass(frozen=True)
class Preset:
    """A named setting: what it changes of the defaults."""

    title: str
    help: str
    changes: Mapping[str, Any] = field(default_factory=dict)


PRESETS: Mapping[str, Preset] = {
    "fast": Preset(
        "Fast",
        "16 prompts a LoRA, cross-attention alone",
        {"targets": "cross-attention", "samples": 16},
    ),
    "best": Preset("Best", "50 prompts a LoRA, all attention"),
    "thorough": Preset(
        "Thorough", "100 prompts a LoRA, every layer", {"targets": "all", "samples": 100}
    ),
    # What the paper's authors publish: each LoRA on its own prompts, its change alone.
    "paper": Preset(
        "As in the paper",
        "each LoRA on its own prompts, its change alone",
        {"teacher": "single", "mode": "delta", "fallback": "mean", "ridge": 1e-4},
    ),
}


def preset_options(name: str) -> dict[str, Any]:
    """This preset's values for all options that any preset sets: keywords of a MergeRequest."""
    options = merge_options()
    decided = dict.fromkeys(key for preset in PRESETS.values() for key in preset.changes)
    return {key: options[key].default for key in decided} | dict(PRESETS[name].changes)


def preset_of(options: Mapping[str, Any]) -> str | None:
    """The preset that these options (of a recipe, say) agree with; None if there is none."""
    fitting = (name for name in PRESETS if preset_options(name).items() <= options.items())
    return next(fitting, None)

"""The LoRAs that ship with the project, and the pairs that are merged, from shelf.json.

Pairs are split: defaults are chosen on the tuning pairs, claims are made on the test pairs. A test
pair shares no LoRA with a tuning pair.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from merging import formats
from merging.adapter import Adapter
from merging.errors import MergeError
from merging.formats.layer_tables import LayerTable
from merging.io.assets import ASSETS

LORAS = ASSETS / "loras"
SPLITS = ("tuning", "test")
KINDS = ("object", "style", "same")
SET = "set"  # the kind of three and more


@dataclass(frozen=True)
class BundledLora:
    """One bundled LoRA."""

    file: str
    trigger: str  # also the name of its class in the detector
    kind: str  # "object", or "style": called by "… in zqx style"
    object: str
    look: str
    setting: str  # "cross-attention", "attention" or "linear", each with the text encoder
    rank: int

    def adapter(self, table: LayerTable) -> Adapter:
        """Read the file."""
        return formats.read(LORAS / self.file, table)


@dataclass(frozen=True)
class BundledPair:
    """Two LoRAs for one picture, or a set of more for one merge."""

    name: str  # "cat-pizza"
    kind: str  # "object": two objects; "style": object and style; "same": two looks of one object
    split: str  # "tuning" or "test"
    triggers: tuple[str, ...]


def shelf(folder: Path = LORAS) -> tuple[BundledLora, ...]:
    """All bundled LoRAs, in the order of shelf.json."""
    return tuple(BundledLora(**row) for row in _shelf_json(folder)["loras"])


def listed_pairs(folder: Path = LORAS) -> tuple[BundledPair, ...]:
    """All pairs, in the order of shelf.json."""
    return tuple(pair for pair in _listed(folder) if pair.kind != SET)


def _listed(folder: Path) -> tuple[BundledPair, ...]:
    rows = _shelf_json(folder)["pairs"]
    return tuple(BundledPair(**{**row, "triggers": tuple(row["triggers"])}) for row in rows)


def shelf_pairs(
    split: str = "tuning", kind: str = "object", folder: Path = LORAS
) -> dict[str, tuple[BundledLora, ...]]:
    """The LoRAs of every pair of a split and kind, by name; MergeError for an unknown one."""
    if split not in SPLITS or kind not in KINDS:
        known = f"{', '.join(SPLITS)}; {', '.join(KINDS)}"
        raise MergeError(f'There are no pairs of "{split}" and "{kind}"; there are {known}.')
    by_trigger = {entry.trigger: entry for entry in shelf(folder)}
    return {
        pair.name: tuple(by_trigger[trigger] for trigger in pair.triggers)
        for pair in listed_pairs(folder)
        if (pair.split, pair.kind) == (split, kind)
    }


def shelf_sets(split: str = "tuning", folder: Path = LORAS) -> dict[str, tuple[BundledLora, ...]]:
    """Sets of LoRAs to merge at once, by name: "test-3-1" is the first of three in its split.

    No object is in a set twice.
    """
    by_trigger = {entry.trigger: entry for entry in shelf(folder)}
    sets: dict[str, tuple[BundledLora, ...]] = {}
    for listed in _listed(folder):
        if (listed.split, listed.kind) == (split, SET):
            size = len(listed.triggers)
            number = 1 + sum(len(entries) == size for entries in sets.values())
            sets[f"{split}-{size}-{number}"] = tuple(by_trigger[t] for t in listed.triggers)
    return sets


def _shelf_json(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "shelf.json").read_text(encoding="utf-8"))

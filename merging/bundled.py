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
SET_SIZES = (3, 4, 6, 12)


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
    """Two LoRAs for one picture."""

    name: str  # "cat-pizza"
    kind: str  # "object": two objects; "style": object and style; "same": two looks of one object
    split: str  # "tuning" or "test"
    triggers: tuple[str, str]


def shelf(folder: Path = LORAS) -> tuple[BundledLora, ...]:
    """All bundled LoRAs, in the order of shelf.json."""
    return tuple(BundledLora(**row) for row in _shelf_json(folder)["loras"])


def listed_pairs(folder: Path = LORAS) -> tuple[BundledPair, ...]:
    """All pairs, in the order of shelf.json."""
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


def shelf_sets(split: str = "tuning", folder: Path = LORAS) -> dict[int, tuple[BundledLora, ...]]:
    """Sets of LoRAs to merge at once, by size: objects of the split first, then styles.

    No object is in a set twice. Sizes larger than the split are left out.
    """
    pairs = [*shelf_pairs(split, "object", folder).values()]
    style_pairs = shelf_pairs(split, "style", folder).values()
    loras = [entry for pair in pairs for entry in pair]
    loras += [entry for pair in style_pairs for entry in pair if entry.kind == "style"]
    return {size: tuple(loras[:size]) for size in SET_SIZES if size <= len(loras)}


def _shelf_json(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "shelf.json").read_text(encoding="utf-8"))

"""The LoRAs that ship with the project, and what is asked for together, as shelf.json says.

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
from merging.assets import ASSETS
from merging.errors import MergeError
from merging.formats.layer_tables import LayerTable

LORAS = ASSETS / "loras"
SPLITS = ("tuning", "test")
KINDS = ("object", "style", "same")
SET_SIZES = (3, 4, 6, 12)


@dataclass(frozen=True)
class Entry:
    """One bundled LoRA."""

    file: str
    trigger: str  # also the name of its class in the detector
    kind: str  # "object", or "style": how everything looks, called by "… in zqx style"
    object: str
    look: str
    setting: str  # the layers: "cross-attention", "attention" or "linear", each with the text's
    rank: int

    def adapter(self, table: LayerTable) -> Adapter:
        """The file, read."""
        return formats.read(LORAS / self.file, table)


@dataclass(frozen=True)
class Pair:
    """Two LoRAs that are asked for in one picture."""

    name: str  # "cat-pizza"
    kind: str  # "object": two things; "style": a thing in a style; "same": two looks of one thing
    split: str  # "tuning" or "test"
    triggers: tuple[str, str]


def shelf(folder: Path = LORAS) -> tuple[Entry, ...]:
    """All bundled LoRAs, in the order of the file."""
    return tuple(Entry(**row) for row in _listed(folder)["loras"])


def listed_pairs(folder: Path = LORAS) -> tuple[Pair, ...]:
    """All pairs, in the order of the file."""
    rows = _listed(folder)["pairs"]
    return tuple(Pair(**{**row, "triggers": tuple(row["triggers"])}) for row in rows)


def shelf_pairs(
    split: str = "tuning", kind: str = "object", folder: Path = LORAS
) -> dict[str, tuple[Entry, ...]]:
    """The LoRAs of every such pair, by its name; MergeError for an unknown split or kind."""
    if split not in SPLITS or kind not in KINDS:
        known = f"{', '.join(SPLITS)}; {', '.join(KINDS)}"
        raise MergeError(f'The shelf has no pairs of "{split}" and "{kind}"; it has {known}.')
    by_trigger = {entry.trigger: entry for entry in shelf(folder)}
    return {
        pair.name: tuple(by_trigger[trigger] for trigger in pair.triggers)
        for pair in listed_pairs(folder)
        if (pair.split, pair.kind) == (split, kind)
    }


def shelf_sets(split: str = "tuning", folder: Path = LORAS) -> dict[int, tuple[Entry, ...]]:
    """What is merged at once, by how many: the first so many objects of the split, then styles.

    No object is in a set twice. A size that the split is too small for is not there.
    """
    pairs = [*shelf_pairs(split, "object", folder).values()]
    styled = shelf_pairs(split, "style", folder).values()
    things = [entry for pair in pairs for entry in pair]
    things += [entry for pair in styled for entry in pair if entry.kind == "style"]
    return {size: tuple(things[:size]) for size in SET_SIZES if size <= len(things)}


def _listed(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "shelf.json").read_text(encoding="utf-8"))

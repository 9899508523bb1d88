"""The concept LoRAs that ship with the project, as assets/loras/shelf.json lists them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from merging import formats
from merging.adapter import Adapter
from merging.formats.layers import LayerTable

LORAS = Path(__file__).parents[2] / "assets" / "loras"


@dataclass(frozen=True)
class Entry:
    """One bundled LoRA."""

    file: str
    trigger: str  # also the name of its class in the detector
    object: str
    look: str
    setting: str
    pair: str

    def adapter(self, table: LayerTable) -> Adapter:
        """The file, read."""
        return formats.read(LORAS / self.file, table)


def shelf() -> tuple[Entry, ...]:
    """All bundled LoRAs, in the order of the file."""
    listed = json.loads((LORAS / "shelf.json").read_text(encoding="utf-8"))
    return tuple(Entry(**row) for row in listed)


def shelf_pairs() -> dict[str, tuple[Entry, ...]]:
    """The LoRAs that belong in one picture, by the name of their pair."""
    entries = shelf()
    names = dict.fromkeys(entry.pair for entry in entries)
    return {name: tuple(entry for entry in entries if entry.pair == name) for name in names}

"""The bundled concept LoRAs, in the pairs that the page offers as one-click examples."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

SHELF = Path(__file__).parents[1] / "assets" / "loras"


@dataclass(frozen=True)
class Example:
    """A pair of bundled LoRAs that a person may want in one picture."""

    title: str  # "cat + pizza"
    files: tuple[Path, ...]


def examples(folder: Path = SHELF) -> tuple[Example, ...]:
    """Every pair on the shelf, in its order; none where no shelf was shipped."""
    listing = folder / "shelf.json"
    if not listing.is_file():
        return ()
    pairs: dict[str, list[dict[str, str]]] = {}
    for item in json.loads(listing.read_text(encoding="utf-8")):
        pairs.setdefault(str(item["pair"]), []).append(item)
    return tuple(
        Example(
            title=" + ".join(item["object"] for item in items),
            files=tuple(folder / item["file"] for item in items),
        )
        for items in pairs.values()
    )

"""The bundled concept LoRAs, in the pairs that the page offers as one-click examples."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from merging.assets import ASSETS
from merging.io.files import file_sha256

SHELF = ASSETS / "loras"
FIRST = "dog-car"  # the merge that is easiest to see; that of cat and pizza tints the background


@dataclass(frozen=True)
class Example:
    """A pair of bundled LoRAs that a person may want in one picture."""

    title: str  # "cat + pizza"
    files: tuple[Path, ...]


def examples(folder: Path = SHELF) -> tuple[Example, ...]:
    """The shelf's tuning pairs of objects, FIRST before the others; none without a shelf.

    The test pairs are kept for the benchmark's last run: nobody should get to know them by hand.
    """
    listing = folder / "shelf.json"
    if not listing.is_file():
        return ()
    listed = json.loads(listing.read_text(encoding="utf-8"))
    loras = {item["trigger"]: item for item in listed["loras"]}
    pairs = [
        [loras[trigger] for trigger in pair["triggers"]]
        for pair in sorted(listed["pairs"], key=lambda pair: pair["name"] != FIRST)
        if (pair["kind"], pair["split"]) == ("object", "tuning")
    ]
    return tuple(
        Example(
            title=" + ".join(item["object"] for item in items),
            files=tuple(folder / item["file"] for item in items),
        )
        for items in pairs
    )


@cache
def bundled(sha256: str) -> Path | None:
    """The bundled LoRA with these bytes, None if there is none."""
    files = SHELF.glob("*.safetensors")
    return next((file for file in sorted(files) if file_sha256(file) == sha256), None)

"""The bundled concept LoRAs, in the pairs that the page offers as one-click examples."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from merging.bundled import LORAS, shelf_pairs
from merging.io.files import file_sha256

FIRST = "dog-car"  # the example that shows best what a merge does


@dataclass(frozen=True)
class Example:
    """A pair of bundled LoRAs for one picture."""

    title: str  # "cat + pizza"
    files: tuple[Path, ...]


def examples(folder: Path = LORAS) -> tuple[Example, ...]:
    """The bundled tuning pairs of objects, FIRST before the others; () without shelf.json.

    The test pairs are reserved for the benchmark's last run.
    """
    if not (folder / "shelf.json").is_file():
        return ()
    pairs = shelf_pairs("tuning", "object", folder)
    ordered = (pairs[name] for name in sorted(pairs, key=lambda name: name != FIRST))
    return tuple(
        Example(
            title=" + ".join(entry.object for entry in entries),
            files=tuple(folder / entry.file for entry in entries),
        )
        for entries in ordered
    )


@cache
def bundled(sha256: str) -> Path | None:
    """The bundled LoRA with these bytes, None if there is none."""
    files = LORAS.glob("*.safetensors")
    return next((file for file in sorted(files) if file_sha256(file) == sha256), None)

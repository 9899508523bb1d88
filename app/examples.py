"""The bundled concept LoRAs that the page offers together as one-click examples."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from merging.bundled import LORAS, shelf_pairs, shelf_sets
from merging.io.assets import ASSETS
from merging.io.files import file_sha256

PICTURES = ASSETS / "examples"  # python -m assets.build.examples draws them
# Names on the shelf: three at once, which the plain sum rarely draws, and two whose pictures are
# clear to the eye (those of the third pair, owl and cake, are not).
OFFERED = ("tuning-3-1", "dog-car", "cat-pizza")


@dataclass(frozen=True)
class Comparison:
    """An example's two pictures from one seed, and how many of ``seeds`` show all concepts."""

    together: Path
    merged: Path
    prompt: str
    seed: int
    seeds: int
    together_shows: int
    merged_shows: int


@dataclass(frozen=True)
class Example:
    """Bundled LoRAs for one picture."""

    title: str  # "cat + pizza"
    files: tuple[Path, ...]
    comparison: Comparison | None = None

    @property
    def gain(self) -> int:
        """How many more of the pictures show all concepts once they are merged."""
        shown = self.comparison
        return shown.merged_shows - shown.together_shows if shown else 0


def examples(folder: Path = LORAS, pictures: Path = PICTURES) -> tuple[Example, ...]:
    """The bundled LoRAs that are offered together, largest gain first; () without shelf.json.

    All are of the tuning split: the test split is reserved for the benchmark's last run.
    """
    if not (folder / "shelf.json").is_file():
        return ()
    compared = _comparisons(pictures)
    together = shelf_pairs("tuning", "object", folder) | shelf_sets("tuning", folder)
    listed = [
        Example(
            title=" + ".join(entry.object for entry in entries),
            files=tuple(folder / entry.file for entry in entries),
            comparison=compared.get(tuple(Path(entry.file).stem for entry in entries)),
        )
        for entries in (together[name] for name in OFFERED)
    ]
    return tuple(sorted(listed, key=lambda example: -example.gain))


def _comparisons(folder: Path) -> dict[tuple[str, ...], Comparison]:
    """The drawn comparisons by the names of their LoRAs; {} where none were drawn."""
    if not (folder / "examples.json").is_file():
        return {}
    rows = json.loads((folder / "examples.json").read_text(encoding="utf-8"))
    return {tuple(row["loras"]): _comparison(row, folder) for row in rows}


def _comparison(row: dict[str, Any], folder: Path) -> Comparison:
    names = "+".join(row["loras"])
    return Comparison(
        together=folder / f"{names}-sum.png",
        merged=folder / f"{names}-merged.png",
        prompt=row["prompt"],
        seed=row["seed"],
        seeds=row["seeds"],
        together_shows=row["sum"],
        merged_shows=row["merged"],
    )


@cache
def bundled(sha256: str) -> Path | None:
    """The bundled LoRA with these bytes, None if there is none."""
    files = LORAS.glob("*.safetensors")
    return next((file for file in sorted(files) if file_sha256(file) == sha256), None)

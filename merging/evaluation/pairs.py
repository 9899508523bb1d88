"""Do two concepts meet in one picture? Every bundled pair, every way to combine it.

A picture counts when the detector finds both concepts in their own look: both looks among the four
strongest classes, and each stronger than the base's own look of the same object.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from merging.adapter import Adapter
from merging.diffusion.base import Base
from merging.diffusion.calibration import activations
from merging.diffusion.render import Compose, render
from merging.evaluation.base import two
from merging.evaluation.detector import Detector
from merging.evaluation.shelf import Entry, shelf_pairs
from merging.merge import merge
from merging.progress import Progress, part, silent
from merging.request import MergeRequest, Source

SEEDS = 20


@dataclass(frozen=True)
class Way:
    """One way to have both concepts in a picture; no options: nothing is merged."""

    title: str
    options: Mapping[str, Any] = field(default_factory=dict)  # of the MergeRequest
    compose: Compose = "sum"


WAYS = {
    "base": Way("base"),
    "sum": Way("plain sum", {"method": "sum"}),
    "average": Way("average", {"method": "average"}),
    "regmean": Way("RegMean", {"method": "regmean"}),
    "iteris": Way("IterIS", {"method": "iteris"}),
    "composed": Way("IterIS, composed teacher", {"method": "iteris", "teacher": "composed"}),
    "gated": Way("gated, no merge", compose="gated"),
}


def evaluate_pairs(base: Base, detector: Detector, progress: Progress = silent) -> dict[str, Any]:
    """Share of pictures with both concepts, by pair and way; JSON-able. Merges with defaults."""
    cells = [(name, pair, way) for name, pair in shelf_pairs().items() for way in WAYS]
    rows: dict[str, dict[str, float]] = {}
    for place, (name, pair, way) in enumerate(cells):
        share = part(progress, place / len(cells), (place + 1) / len(cells))
        images = _draw(base, WAYS[way], pair, share)
        found = detector.found(detector.scores(images), [entry.trigger for entry in pair])
        rows.setdefault(name, {})[way] = found.float().mean().item()
    return {"pictures": SEEDS, "both": rows, "setting": _settings()}


def _prompts(pair: Sequence[Entry]) -> Iterator[str]:
    """The plain prompt for both, each named first in turn."""
    phrases = [entry.trigger for entry in pair]
    for seed in range(SEEDS):
        yield two(*(phrases if seed % 2 == 0 else reversed(phrases)))


def _settings() -> dict[str, str]:
    return {name: pair[0].setting for name, pair in shelf_pairs().items()}


def _draw(base: Base, way: Way, pair: Sequence[Entry], progress: Progress) -> list[Image.Image]:
    """The pictures of one pair in one way."""
    progress(0.0, f"{' and '.join(entry.trigger for entry in pair)}, {way.title}")
    return render(
        base,
        list(_prompts(pair)),
        range(SEEDS),
        adapters=_combined(base, way, pair, part(progress, 0.0, 0.5)),
        compose=way.compose,
        progress=part(progress, 0.5, 1.0),
    )


def _combined(
    base: Base, way: Way, pair: Sequence[Entry], progress: Progress
) -> list[tuple[Adapter, float]]:
    """What to draw with: nothing, the pair itself, or the one adapter that is made of it."""
    adapters = [entry.adapter(base.table) for entry in pair]
    if not way.options:
        return [(adapter, 1.0) for adapter in adapters] if way.compose == "gated" else []
    request = MergeRequest(tuple(map(Source, adapters)), **way.options)
    return [(merge(request, activations(base), progress).adapter, 1.0)]


def table(figures: dict[str, Any]) -> str:
    """The figures as Markdown, one line per pair and one for all of them."""
    lines = [f"| pair | LoRAs on | {' | '.join(way.title for way in WAYS.values())} |"]
    lines.append("| --- " * (len(WAYS) + 2) + "|")
    rows = figures["both"]
    for name, row in rows.items():
        cells = " | ".join(f"{row[way]:.2f}" for way in WAYS)
        lines.append(f"| {name} | {figures['setting'][name]} | {cells} |")
    means = [sum(row[way] for row in rows.values()) / len(rows) for way in WAYS]
    lines.append(f"| all | | {' | '.join(f'{mean:.2f}' for mean in means)} |")
    return "\n".join(lines)

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


# What the options of IterIS do here: the table to choose defaults from.
GRID = {
    f"{teacher} {fallback} {ridge:g}": Way(
        f"{teacher} teacher, fallback {fallback}, ridge {ridge:g}",
        {"teacher": teacher, "fallback": fallback, "ridge": ridge},
    )
    for teacher in ("single", "composed")
    for fallback in ("mean", "sum")
    for ridge in (1e-4, 1e-3, 1e-2)
}


def evaluate_pairs(base: Base, detector: Detector, progress: Progress = silent) -> dict[str, Any]:
    """Every pair in every way, each method with its defaults."""
    return evaluate_ways(base, detector, WAYS, progress)


def evaluate_grid(base: Base, detector: Detector, progress: Progress = silent) -> dict[str, Any]:
    """Every pair merged by IterIS, over teachers, fallbacks and ridges."""
    return evaluate_ways(base, detector, GRID, progress)


def evaluate_ways(
    base: Base, detector: Detector, ways: Mapping[str, Way], progress: Progress
) -> dict[str, Any]:
    """Share of pictures with both concepts, by way and pair; JSON-able."""
    pairs = shelf_pairs()
    cells = [(key, name) for key in ways for name in pairs]
    both: dict[str, dict[str, float]] = {key: {} for key in ways}
    for place, (key, name) in enumerate(cells):
        share = part(progress, place / len(cells), (place + 1) / len(cells))
        images = _draw(base, ways[key], pairs[name], share)
        found = detector.found(detector.scores(images), [each.trigger for each in pairs[name]])
        both[key][name] = found.float().mean().item()
    return {
        "pictures": SEEDS,
        "both": both,
        "ways": {key: way.title for key, way in ways.items()},
        "layers": {name: pair[0].setting for name, pair in pairs.items()},
    }


def _prompts(pair: Sequence[Entry]) -> Iterator[str]:
    """The plain prompt for both, each named first in turn."""
    phrases = [entry.trigger for entry in pair]
    for seed in range(SEEDS):
        yield two(*(phrases if seed % 2 == 0 else reversed(phrases)))


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
    """The figures as Markdown, one line per way."""
    pairs = figures["layers"]
    heads = [f"{name} ({layers})" for name, layers in pairs.items()]
    lines = [f"| both of two concepts found | {' | '.join(heads)} | all |"]
    lines.append("| --- " * (len(pairs) + 2) + "|")
    for key, row in figures["both"].items():
        cells = " | ".join(f"{row[name]:.2f}" for name in pairs)
        mean = sum(row.values()) / len(row)
        lines.append(f"| {figures['ways'][key]} | {cells} | {mean:.2f} |")
    return "\n".join(lines)

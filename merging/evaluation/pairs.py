"""Do two concepts meet in one picture, and what does it cost? Every pair, every way to combine it.

Three shares of pictures, by the detector:
both: the prompt names both concepts, and both are found in their own look (among the four strongest
classes, each stronger than the base's own look of the same object).
alone: the prompt names one of them, and its look is the strongest class of all.
prior: the prompt names another object of the base, and it is the strongest class of all.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from merging.adapter import Adapter
from merging.diffusion.base import Base
from merging.diffusion.calibration import activations
from merging.diffusion.render import Compose, render
from merging.evaluation.base import one, two
from merging.evaluation.detector import Detector, is_look
from merging.evaluation.shelf import Entry, shelf_pairs
from merging.merge import merge
from merging.progress import Progress, part, silent
from merging.request import MergeRequest, Source

SEEDS = 20  # for both concepts; half of them for either alone
OTHERS = 20  # objects that no concept is about, one picture each
KINDS = ("both", "alone", "prior")


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
    """Every pair merged by IterIS, over teachers, fallbacks and ridges; counts both concepts."""
    return evaluate_ways(base, detector, GRID, progress, kinds=("both",))


def evaluate_ways(
    base: Base,
    detector: Detector,
    ways: Mapping[str, Way],
    progress: Progress,
    kinds: Sequence[str] = KINDS,
) -> dict[str, Any]:
    """The shares by way and pair; JSON-able."""
    pairs = shelf_pairs()
    cells = [(key, name) for key in ways for name in pairs]
    shares: dict[str, dict[str, dict[str, float]]] = {key: {} for key in ways}
    for place, (key, name) in enumerate(cells):
        ahead = part(progress, place / len(cells), (place + 1) / len(cells))
        shares[key][name] = evaluate_pair(base, detector, ways[key], pairs[name], ahead, kinds)
    return {
        "pictures": {kind: OTHERS if kind == "prior" else SEEDS for kind in kinds},
        "shares": shares,
        "ways": {key: way.title for key, way in ways.items()},
        "layers": {name: pair[0].setting for name, pair in pairs.items()},
    }


def evaluate_pair(
    base: Base,
    detector: Detector,
    way: Way,
    pair: Sequence[Entry],
    progress: Progress = silent,
    kinds: Sequence[str] = KINDS,
) -> dict[str, float]:
    """One pair in one way: share of pictures with both, with either alone, of other things."""
    triggers, others = [entry.trigger for entry in pair], _others(detector, pair)
    progress(0.0, f"{' and '.join(triggers)}, {way.title}")
    adapters = _combined(base, way, pair, part(progress, 0.0, 0.4))
    prompts = {
        "both": list(_both(triggers)),
        "alone": list(_either(triggers)),
        "prior": [one(name) for name in others],
    }
    counts = [len(prompts[kind]) for kind in kinds]
    images = render(
        base,
        [prompt for kind in kinds for prompt in prompts[kind]],
        [seed for count in counts for seed in range(count)],
        adapters=adapters,
        compose=way.compose,
        progress=part(progress, 0.4, 1.0),
    )
    scores = dict(zip(kinds, detector.scores(images).split(counts), strict=True))
    count: dict[str, Callable[[Tensor], float]] = {
        "both": lambda rows: detector.found(rows, triggers).float().mean().item(),
        "alone": lambda rows: _strongest(detector, rows, triggers * (SEEDS // len(triggers))),
        "prior": lambda rows: _strongest(detector, rows, others),
    }
    return {kind: count[kind](scores[kind]) for kind in kinds}


def _both(triggers: Sequence[str]) -> Iterator[str]:
    """The plain prompt for both, each named first in turn."""
    for seed in range(SEEDS):
        yield two(*(triggers if seed % 2 == 0 else reversed(triggers)))


def _either(triggers: Sequence[str]) -> Iterator[str]:
    """The plain prompt for one, each in turn."""
    for seed in range(SEEDS):
        yield one(triggers[seed % len(triggers)])


def _others(detector: Detector, pair: Sequence[Entry]) -> list[str]:
    """Objects of the base that the pair is not about, a seeded choice."""
    about = {entry.object for entry in pair}
    names = [name for name in detector.classes if not is_look(name) and name not in about]
    return random.Random(0).sample(names, OTHERS)


def _strongest(detector: Detector, scores: Tensor, names: Sequence[str]) -> float:
    """Share of pictures whose strongest class, styles aside, is the one that was asked for."""
    rows = zip(scores.split(1), names, strict=True)
    right = [detector.found(row, [name], strongest=1) for row, name in rows]
    return torch.cat(right).float().mean().item()


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
    """The figures as Markdown, one line per way, the shares of a cell side by side."""
    pairs = figures["layers"]
    heads = [f"{name} ({layers})" for name, layers in pairs.items()]
    lines = [f"| {' · '.join(figures['pictures'])} | {' | '.join(heads)} | all |"]
    lines.append("| --- " * (len(pairs) + 2) + "|")
    for key, row in figures["shares"].items():
        cells = [row[name] for name in pairs]
        mean = {kind: sum(cell[kind] for cell in cells) / len(cells) for kind in cells[0]}
        told = " | ".join(map(_cell, [*cells, mean]))
        lines.append(f"| {figures['ways'][key]} | {told} |")
    return "\n".join(lines)


def _cell(shares: Mapping[str, float]) -> str:
    return " · ".join(f"{share:.2f}" for share in shares.values())

"""Is the embedded base any good: does it draw what it is told, and do its LoRAs bind?

Three figures, all by the detector (merging/evaluation/detector.py):
single: "a photo of a cat" is right when its own object is the strongest class of all.
two: "a photo of a cat and a pizza" is right when these are the two strongest classes of all;
`among` counts the pictures in which both are among the four strongest, which is the pairs' count.
looks: a LoRA alone is right when its look scores above the base's own look of the object; `first`
counts the pictures in which it is also the strongest class of all. A style LoRA is right when its
style is found; `first` counts the pictures in which the object asked for is the strongest as well.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from merging.adapter import Adapter
from merging.bundled import Entry, shelf_pairs
from merging.diffusion.base import Base
from merging.diffusion.render import render
from merging.evaluation.cases import article
from merging.evaluation.detector import Detector
from merging.runtime.progress import Progress, part, silent

BARS = {"single": 0.95, "two": 0.90, "looks": 0.90}
SINGLE_SEEDS, TWO_PROMPTS, LOOK_PICTURES = 10, 100, 50
GUIDANCE = 5.0  # at which the detector's thresholds were set; harder on the colours than is usual


def one(name: str) -> str:
    """The prompt for one thing."""
    return f"a photo of {article(name)}"


def two(first: str, second: str) -> str:
    """The prompt for two things."""
    return f"a photo of {article(first)} and {article(second)}"


def drawn(
    base: Base,
    prompts: Sequence[str],
    seeds: Sequence[int],
    own: Adapter | None = None,
    progress: Progress = silent,
) -> list[Image.Image]:
    """A picture per prompt and seed, under one LoRA or none, at the guidance measured at."""
    adapters = [(own, 1.0)] if own else []
    return render(base, prompts, seeds, adapters=adapters, guidance=GUIDANCE, progress=progress)


def evaluate_base(base: Base, detector: Detector, progress: Progress = silent) -> dict[str, Any]:
    """All three figures, looks of the tuning pairs; JSON-able. About 900 pictures."""
    known = [entry for pair in shelf_pairs().values() for entry in pair]
    names = detector.things
    return {
        "single": evaluate_single(base, detector, names, part(progress, 0.0, 0.45)),
        "two": evaluate_two(base, detector, names, part(progress, 0.45, 0.6)),
        "looks": evaluate_looks(base, detector, known, part(progress, 0.6, 1.0)),
        "bars": BARS,
    }


def evaluate_single(
    base: Base, detector: Detector, names: Sequence[str], progress: Progress = silent
) -> dict[str, Any]:
    """Share of single-object pictures with the right strongest class, in all and by object."""
    prompts = [one(name) for name in names for _ in range(SINGLE_SEEDS)]
    seeds = list(range(SINGLE_SEEDS)) * len(names)
    scores = detector.scores(drawn(base, prompts, seeds, progress=progress)).split(SINGLE_SEEDS)
    shares = {
        name: detector.found(rows, [name], strongest=1).double().mean().item()
        for name, rows in zip(names, scores, strict=True)
    }
    return {"pictures": len(prompts), "share": sum(shares.values()) / len(shares), "by": shares}


def evaluate_two(
    base: Base, detector: Detector, names: Sequence[str], progress: Progress = silent
) -> dict[str, Any]:
    """Share of two-object pictures with both first; with both at all; with these and nothing else.

    `exact`: the two, and no other class, pass the thresholds set on pictures of the base.
    """
    rng = random.Random(0)
    couples = [rng.sample(names, 2) for _ in range(TWO_PROMPTS)]
    prompts = [two(*couple) for couple in couples]
    scores = detector.scores(drawn(base, prompts, range(TWO_PROMPTS), progress=progress))
    rows = list(zip(scores.split(1), couples, strict=True))
    first = [bool(detector.found(row, couple, strongest=2)) for row, couple in rows]
    among = [bool(detector.found(row, couple)) for row, couple in rows]
    exact = [set(_passing(detector, row)) == set(couple) for row, couple in rows]
    missed = [prompt for prompt, right in zip(prompts, first, strict=True) if not right]
    return {
        "pictures": TWO_PROMPTS,
        "share": sum(first) / TWO_PROMPTS,
        "among": sum(among) / TWO_PROMPTS,
        "exact": sum(exact) / TWO_PROMPTS,
        "missed": missed,
    }


def _passing(detector: Detector, row: Tensor) -> list[str]:
    passing = detector.present(row)[0].nonzero().flatten().tolist()
    return [detector.classes[place] for place in passing]


def evaluate_looks(
    base: Base, detector: Detector, entries: Sequence[Entry], progress: Progress = silent
) -> dict[str, Any]:
    """For each LoRA alone: how often its look is there, and the strongest of all."""
    rows = {}
    for place, entry in enumerate(entries):
        share = part(progress, place / len(entries), (place + 1) / len(entries))
        prompts, names = _asked(entry, detector)
        scores = detector.scores(_alone(base, entry, prompts, share))
        there, first = _there(detector, scores, entry, names)
        rows[entry.trigger] = {
            "share": there.double().mean().item(),
            "first": (there & first).double().mean().item(),
        }
    return {"pictures": LOOK_PICTURES, "by": rows}


def _asked(entry: Entry, detector: Detector) -> tuple[list[str], list[str]]:
    """The prompts for a LoRA alone, and what each names: itself, or a thing in its style."""
    if entry.kind != "style":
        return [one(entry.trigger)] * LOOK_PICTURES, [entry.trigger] * LOOK_PICTURES
    own = detector.things
    names = [own[place % len(own)] for place in range(LOOK_PICTURES)]
    return [f"{one(name)} in {entry.trigger}" for name in names], names


def _there(
    detector: Detector, scores: Tensor, entry: Entry, names: Sequence[str]
) -> tuple[Tensor, Tensor]:
    """For each row of scores, whether the look or style is there, and what was named strongest."""
    rows = zip(scores.split(1), names, strict=True)
    first = torch.cat([detector.found(row, [name], strongest=1) for row, name in rows])
    if entry.kind == "style":
        return detector.found(scores, [entry.trigger]), first
    return detector.beats_own_look(scores, entry.trigger), first


def _alone(
    base: Base, entry: Entry, prompts: Sequence[str], progress: Progress
) -> list[Image.Image]:
    own = entry.adapter(base.table)
    return drawn(base, prompts, range(len(prompts)), own, progress)


def table(figures: dict[str, Any]) -> str:
    """The figures as Markdown, each beside its bar."""
    single, both, looks = figures["single"], figures["two"], figures["looks"]
    lines = ["| | pictures | right | bar |", "| --- | --- | --- | --- |"]
    add: Callable[[str], None] = lines.append
    bars = {name: f"{bar:.0%}" for name, bar in figures["bars"].items()}
    add(f"| one object | {single['pictures']} | {single['share']:.1%} | {bars['single']} |")
    right = f"{both['share']:.1%} (nothing else above its threshold: {both['exact']:.0%})"
    add(f"| two objects | {both['pictures']} | {right} | {bars['two']} |")
    for name, row in looks["by"].items():
        right = f"{row['share']:.0%} (strongest of all: {row['first']:.0%})"
        add(f"| {name}, its LoRA alone | {looks['pictures']} | {right} | {bars['looks']} |")
    weak = [f"{name} {share:.0%}" for name, share in single["by"].items() if share < 1]
    add(f"\nSingle objects below 100 %: {', '.join(weak) or 'none'}.")
    return "\n".join(lines)

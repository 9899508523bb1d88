"""How well the embedded base follows its prompts, and how well its LoRAs work.

Three figures, all measured by the detector (merging/evaluation/detector.py):
single: "a photo of a cat" is right when its object is the strongest class of all.
two: "a photo of a cat and a pizza" is right when these are the two strongest classes of all;
`among` counts the pictures in which both are among the four strongest, which is the pairs' count.
looks: a LoRA alone is right when its look scores above the base's look of the object; `first`
counts the pictures in which it is also the strongest class of all. A style LoRA is right when its
style is found; `first` counts the pictures in which the prompt's object is also the strongest.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from merging.adapter import Adapter
from merging.bundled import BundledLora, shelf_pairs
from merging.diffusion.base import Base
from merging.diffusion.render import render
from merging.evaluation.cases import article
from merging.evaluation.detector import Detector
from merging.runtime.progress import Progress, part, silent

BARS = {"single": 0.95, "two": 0.90, "looks": 0.90}
SINGLE_SEEDS, TWO_PROMPTS, LOOK_PICTURES = 10, 100, 50
GUIDANCE = 5.0  # the detector's thresholds were set at it; it exaggerates the colours


def one_prompt(name: str) -> str:
    """The prompt for one object."""
    return f"a photo of {article(name)}"


def two_prompt(first: str, second: str) -> str:
    """The prompt for two objects."""
    return f"a photo of {article(first)} and {article(second)}"


def draw(
    base: Base,
    prompts: Sequence[str],
    seeds: Sequence[int],
    adapter: Adapter | None = None,
    progress: Progress = silent,
) -> list[Image.Image]:
    """A picture per prompt and seed, with one LoRA or none, at GUIDANCE."""
    adapters = [(adapter, 1.0)] if adapter else []
    return render(base, prompts, seeds, adapters=adapters, guidance=GUIDANCE, progress=progress)


def evaluate_base(base: Base, detector: Detector, progress: Progress = silent) -> dict[str, Any]:
    """All three figures, with the looks of the tuning pairs, for JSON. About 900 pictures."""
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
    """Share of single-object pictures with the right strongest class, overall and by object."""
    prompts = [one_prompt(name) for name in names for _ in range(SINGLE_SEEDS)]
    seeds = list(range(SINGLE_SEEDS)) * len(names)
    scores = detector.scores(draw(base, prompts, seeds, progress=progress)).split(SINGLE_SEEDS)
    shares = {
        name: detector.contains(rows, [name], strongest=1).double().mean().item()
        for name, rows in zip(names, scores, strict=True)
    }
    return {"pictures": len(prompts), "share": sum(shares.values()) / len(shares), "by": shares}


def evaluate_two(
    base: Base, detector: Detector, names: Sequence[str], progress: Progress = silent
) -> dict[str, Any]:
    """Share of two-object pictures whose two strongest classes are right.

    `among`: both are among the four strongest. `exact`: these two classes and no other are above
    the thresholds that were set on pictures of the base.
    """
    rng = random.Random(0)
    couples = [rng.sample(names, 2) for _ in range(TWO_PROMPTS)]
    prompts = [two_prompt(*couple) for couple in couples]
    scores = detector.scores(draw(base, prompts, range(TWO_PROMPTS), progress=progress))
    rows = list(zip(scores.split(1), couples, strict=True))
    first = [bool(detector.contains(row, couple, strongest=2)) for row, couple in rows]
    among = [bool(detector.contains(row, couple)) for row, couple in rows]
    exact = [set(_classes_above_threshold(detector, row)) == set(couple) for row, couple in rows]
    missed = [prompt for prompt, right in zip(prompts, first, strict=True) if not right]
    return {
        "pictures": TWO_PROMPTS,
        "share": sum(first) / TWO_PROMPTS,
        "among": sum(among) / TWO_PROMPTS,
        "exact": sum(exact) / TWO_PROMPTS,
        "missed": missed,
    }


def _classes_above_threshold(detector: Detector, row: Tensor) -> list[str]:
    passing = detector.above_threshold(row)[0].nonzero().flatten().tolist()
    return [detector.classes[index] for index in passing]


def evaluate_looks(
    base: Base, detector: Detector, entries: Sequence[BundledLora], progress: Progress = silent
) -> dict[str, Any]:
    """For each LoRA alone: how often its look is present, and how often it is the strongest."""
    rows = {}
    for index, entry in enumerate(entries):
        share = part(progress, index / len(entries), (index + 1) / len(entries))
        prompts, names = _look_prompts(entry, detector)
        scores = detector.scores(_draw_alone(base, entry, prompts, share))
        present, first = _look_results(detector, scores, entry, names)
        rows[entry.trigger] = {
            "share": present.double().mean().item(),
            "first": (present & first).double().mean().item(),
        }
    return {"pictures": LOOK_PICTURES, "by": rows}


def _look_prompts(entry: BundledLora, detector: Detector) -> tuple[list[str], list[str]]:
    """The prompts for a LoRA alone, and the class that each names: its look, or an object."""
    if entry.kind != "style":
        return [one_prompt(entry.trigger)] * LOOK_PICTURES, [entry.trigger] * LOOK_PICTURES
    objects = detector.things
    names = [objects[index % len(objects)] for index in range(LOOK_PICTURES)]
    return [f"{one_prompt(name)} in {entry.trigger}" for name in names], names


def _look_results(
    detector: Detector, scores: Tensor, entry: BundledLora, names: Sequence[str]
) -> tuple[Tensor, Tensor]:
    """Per row of scores: is the look or style present, and is the named class the strongest?"""
    rows = zip(scores.split(1), names, strict=True)
    first = torch.cat([detector.contains(row, [name], strongest=1) for row, name in rows])
    if entry.kind == "style":
        return detector.contains(scores, [entry.trigger]), first
    return detector.beats_base_class(scores, entry.trigger), first


def _draw_alone(
    base: Base, entry: BundledLora, prompts: Sequence[str], progress: Progress
) -> list[Image.Image]:
    adapter = entry.adapter(base.table)
    return draw(base, prompts, range(len(prompts)), adapter, progress)


def table(figures: dict[str, Any]) -> str:
    """The figures as Markdown, with the bar that each must reach."""
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

"""How well the embedded base follows its prompts, and how well its LoRAs work.

All figures are measured by the detector (merging/evaluation/detector.py), strictly:
one, two, three: exactly the objects that the prompt names are the strongest classes of all.
in place: two named objects stand in the order of the prompt, the first one left.
background: the colour or place that the prompt names, of the same pictures.
on, behind: both objects are there, the first one above the second.
sizes: the same thing, asked for as "big", covers half as much again as asked for as "small".
A LoRA alone is right when its look scores above the base's look of the object; `first` counts the
pictures in which it is also the strongest class of all. A style LoRA is right when its style is
found; `first` counts the pictures in which the prompt's object is also the strongest.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image, ImageChops
from torch import Tensor

from merging.adapter import Adapter
from merging.bundled import BundledLora, shelf
from merging.diffusion.base import Base
from merging.diffusion.render import render
from merging.evaluation.cases import article
from merging.evaluation.detector import Detector
from merging.runtime.progress import Progress, part, silent

BARS = {
    "one object": 0.98,
    "two objects": 0.96,
    "two objects in place": 0.96,
    "three objects": 0.85,
    "background of one object": 0.97,
    "background of two objects": 0.97,
    "background of three objects": 0.97,
    "one on the other": 0.9,
    "one behind the other": 0.9,
    "big and small": 0.9,
    "LoRA alone": 0.90,
}
GUIDANCES = (3.0, 5.0, 7.0)  # the pictures of a row take turns
GUIDANCE = 5.0  # of pictures of LoRAs, and for the detector's thresholds
PICTURES, SINGLE_SEEDS, LOOK_PICTURES = 120, 10, 24
COUNTS = ("one object", "two objects", "three objects")
RELATIONS = {"on": "one on the other", "behind": "one behind the other"}
PLACES = {
    "meadow": "on the grass",
    "sea": "by the sea",
    "snow": "in the snow",
    "night": "at night under the stars",
    "table": "on a wooden table",
    "room": "in a room",
}
BIGGER = 1.5  # how much more of the picture a big thing covers, at least


@dataclass(frozen=True)
class Question:
    """One picture of the base: what the prompt names, and how that is judged."""

    prompt: str
    objects: tuple[str, ...]
    seed: int
    ground: str | None = None
    relation: str = "beside"

    @property
    def guidance(self) -> float:
        """All of GUIDANCES take turns."""
        return GUIDANCES[self.seed % len(GUIDANCES)]


def one_prompt(name: str) -> str:
    """The prompt for one object."""
    return f"a photo of {article(name)}"


def two_prompt(first: str, second: str) -> str:
    """The prompt for two objects."""
    return f"a photo of {article(first)} and {article(second)}"


def place_words(ground: str) -> str:
    """How a background is asked for: "on a red background", "in the snow"."""
    return PLACES.get(ground) or f"on {article(ground)} background"


def draw(
    base: Base,
    prompts: Sequence[str],
    seeds: Sequence[int],
    adapter: Adapter | None = None,
    progress: Progress = silent,
    guidance: float = GUIDANCE,
) -> list[Image.Image]:
    """A picture per prompt and seed, with one LoRA or none."""
    adapters = [(adapter, 1.0)] if adapter else []
    return render(base, prompts, seeds, adapters=adapters, guidance=guidance, progress=progress)


def evaluate_base(base: Base, detector: Detector, progress: Progress = silent) -> dict[str, Any]:
    """All figures, for JSON: shares by row and by guidance, and the LoRAs. About 1,600 pictures."""
    every = tuple(questions(detector))
    rows: dict[str, dict[float, list[bool]]] = defaultdict(lambda: defaultdict(list))
    for place, guidance in enumerate(GUIDANCES):
        of_one = [question for question in every if question.guidance == guidance]
        shares = part(progress, 0.2 * place, 0.2 * place + 0.2)
        images = _drawn(base, of_one, guidance, shares)
        for row, right in judged(detector, of_one, images):
            rows[row][guidance].append(right)
    sizes = evaluate_sizes(base, detector.things, part(progress, 0.6, 0.65))
    for guidance, rights in sizes.items():
        rows["big and small"][guidance] = rights
    return {
        "rows": {row: _shares(rights) for row, rights in rows.items()},
        "looks": evaluate_looks(base, detector, shelf(), part(progress, 0.65, 1.0)),
        "bars": BARS,
    }


def questions(detector: Detector) -> Iterator[Question]:
    """The pictures of the base's rows, from fixed seeds."""
    rng, names = random.Random(0), detector.things
    for seed in range(SINGLE_SEEDS * len(names)):
        yield _question(rng, [names[seed % len(names)]], seed, detector.grounds)
    for count in (2, 3):
        for seed in range(PICTURES):
            yield _question(rng, rng.sample(names, count), seed, detector.grounds)
    for relation in RELATIONS:
        for seed in range(PICTURES):
            first, second = rng.sample(names, 2)
            prompt = f"a photo of {article(first)} {relation} {article(second)}"
            yield Question(prompt, (first, second), seed, relation=relation)


def _question(
    rng: random.Random, objects: list[str], seed: int, grounds: Sequence[str]
) -> Question:
    ground = rng.choice(grounds)
    named = [article(name) for name in objects]
    listed = " and ".join([", ".join(named[:-1]), named[-1]] if len(named) > 1 else named)
    return Question(f"a photo of {listed} {place_words(ground)}", tuple(objects), seed, ground)


def _drawn(
    base: Base, questions: Sequence[Question], guidance: float, progress: Progress
) -> list[Image.Image]:
    prompts, seeds = [each.prompt for each in questions], [each.seed for each in questions]
    return draw(base, prompts, seeds, progress=progress, guidance=guidance)


def judged(
    detector: Detector, questions: Sequence[Question], images: Sequence[Image.Image]
) -> Iterator[tuple[str, bool]]:
    """A row's name and whether the picture is right in it, for every row that it counts in."""
    scores, where = detector.scores(images), detector.where(images)
    grounds = detector.behind(images)
    for question, row, spots, ground in zip(questions, scores, where, grounds, strict=True):
        count = len(question.objects)
        there = bool(detector.contains(row[None], question.objects, strongest=count))
        at = spots[[detector.column(name) for name in question.objects]]  # (objects, x and y)
        if question.relation in RELATIONS:
            yield RELATIONS[question.relation], there and bool(at[0, 1] < at[1, 1])
            continue
        yield COUNTS[count - 1], there
        yield f"background of {COUNTS[count - 1]}", ground == question.ground
        if count == 2:
            yield "two objects in place", there and bool(at[0, 0] < at[1, 0])


def evaluate_sizes(
    base: Base, names: Sequence[str], progress: Progress = silent
) -> dict[float, list[bool]]:
    """By guidance, for each object whether "big" covers more than "small"."""
    rights = {}
    for place, guidance in enumerate(GUIDANCES):
        things = names[place :: len(GUIDANCES)]
        prompts = [
            f"a photo of a {size} {name} on a white background"
            for name in things
            for size in ("big", "small")
        ]
        seeds = [seed for seed in range(len(things)) for _ in range(2)]
        areas = [covered(image) for image in draw(base, prompts, seeds, guidance=guidance)]
        pairs = zip(areas[::2], areas[1::2], strict=True)
        rights[guidance] = [big > BIGGER * small for big, small in pairs]
        progress((place + 1) / len(GUIDANCES), "big and small things")
    return rights


def covered(image: Image.Image) -> int:
    """How many pixels differ from the corner's colour by more than a quarter of a channel."""
    flat = Image.new("RGB", image.size, image.convert("RGB").getpixel((1, 1)))
    bands = ImageChops.difference(image.convert("RGB"), flat).split()
    most = ImageChops.lighter(ImageChops.lighter(bands[0], bands[1]), bands[2])
    return sum(most.histogram()[64:])


def _shares(by_guidance: dict[float, list[bool]]) -> dict[str, Any]:
    """Pictures, the share that is right, and the same by guidance."""
    every = [right for rights in by_guidance.values() for right in rights]
    by = {f"{guidance:g}": sum(rights) / len(rights) for guidance, rights in by_guidance.items()}
    return {"pictures": len(every), "share": sum(every) / len(every), "by": by}


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
    bars, looks = figures["bars"], figures["looks"]
    headings = " | ".join(f"at guidance {guidance:g}" for guidance in GUIDANCES)
    lines = [f"| | pictures | right | {headings} | bar |", "| --- |" + " --- |" * 6]
    for name, row in figures["rows"].items():
        by = " | ".join(f"{share:.1%}" for share in row["by"].values())
        lines.append(
            f"| {name} | {row['pictures']} | {row['share']:.1%} | {by} | {bars[name]:.0%} |"
        )
    lines += ["", f"| LoRA alone, {looks['pictures']} pictures | right | strongest of all |"]
    lines.append("| --- | --- | --- |")
    for name, row in looks["by"].items():
        lines.append(f"| {name} | {row['share']:.0%} | {row['first']:.0%} |")
    return "\n".join(lines) + f"\n\nThe bar of each LoRA: {bars['LoRA alone']:.0%}."

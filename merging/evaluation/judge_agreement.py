"""How often the judge, which knows the LoRAs alone, says what the detector says.

Pictures of the contest's cases are drawn in several ways, also by merges; every concept of a case
is looked for in each. A threshold lies so far between the median advantage in the base's pictures
and that in the LoRA's own (`merging.diffusion.refine.judge`); the table has several such shares.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from merging.calibration.prompts import is_style
from merging.diffusion.refine.concept import concept_of
from merging.diffusion.refine.judge import MIDWAY, build_judge
from merging.evaluation.cases import Case
from merging.evaluation.cells import Arena, read_concept
from merging.evaluation.detector import Detector
from merging.evaluation.variants import ENTRANTS
from merging.runtime.progress import Progress, part

SHARES = (0.1, 0.25, 0.5, 0.75)
WAYS = ("base", "stack", "tsv", "paint")  # contestants


@dataclass(frozen=True)
class Look:
    """One concept looked for in one picture."""

    way: str  # of drawing
    score: float  # of the judge, whose threshold is midway
    seen: bool  # by the detector

    def found(self, share: float) -> bool:
        """Whether the judge finds it with another threshold; the base's own advantage is next to 0.

        So a threshold at twice the share is twice as high.
        """
        return self.score > share / MIDWAY


def looks(
    arena: Arena, detector: Detector, cases: Sequence[Case], progress: Progress
) -> list[Look]:
    """Draw the pictures that ask for several concepts in every way, and look at them."""
    found = []
    for place, case in enumerate(cases):
        share = part(progress, place / len(cases), (place + 1) / len(cases))
        found += _looks_of(arena, detector, case, share)
    return found


def _looks_of(arena: Arena, detector: Detector, case: Case, progress: Progress) -> list[Look]:
    adapters = [read_concept(arena.base, concept) for concept in case.concepts]
    concepts = [concept_of(arena.base, adapter) for adapter in adapters]
    judge = build_judge(arena.base, concepts, progress=part(progress, 0.0, 0.4))
    tasks = [task for task in case.tasks if task.kind == "together"]
    prompts, seeds = [task.prompt for task in tasks], [task.seed for task in tasks]
    found = []
    for place, way in enumerate(WAYS):
        share = part(progress, 0.4 + 0.6 * place / len(WAYS), 0.4 + 0.6 * (place + 1) / len(WAYS))
        drawing, looking = part(share, 0.0, 0.6), part(share, 0.6, 1.0)
        (adapter_set,) = ENTRANTS[way].combine(arena.base, adapters, drawing)
        images = arena.draw(prompts, seeds, adapter_set, ENTRANTS[way].compose, drawing)
        scores = detector.scores(images)
        rows = judge.findings(images, prompts, looking)
        for i, concept in enumerate(concepts):
            seen = detector.contains(scores, [concept.phrase]).tolist()
            found += [Look(way, row[i].score, saw) for row, saw in zip(rows, seen, strict=True)]
    return found


def table(looks: Sequence[Look]) -> str:
    """Agreement by way of drawing and threshold, as Markdown."""
    lines = [
        "| pictures | looks | detector finds | "
        + " | ".join(f"threshold at {share:g}" for share in SHARES)
        + " |",
        "| --- | --- | --- |" + " --- |" * len(SHARES),
    ]
    for way in (*WAYS, "all"):
        rows = [look for look in looks if way in (look.way, "all")]
        if not rows:
            continue
        cells = [_cell(rows, share) for share in SHARES]
        seen = sum(look.seen for look in rows)
        lines.append(f"| {way} | {len(rows)} | {seen} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(rows: Sequence[Look], share: float) -> str:
    agreed = sum(look.found(share) == look.seen for look in rows)
    missed = sum(look.seen and not look.found(share) for look in rows)
    return f"{agreed / len(rows):.2f} (missed {missed}, more {len(rows) - agreed - missed})"


def judged_cases(cases: Sequence[Case]) -> tuple[Case, ...]:
    """Those without a style, which the detector tells by a threshold of its own."""
    return tuple(case for case in cases if not any(map(is_style, case.triggers)))

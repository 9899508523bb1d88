"""The argument --judge of ``render``: which LoRAs' concepts are looked for, and what is found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

from PIL import Image

from merging.adapter import Adapter
from merging.cli.arguments.file_argument import parse_file_argument
from merging.diffusion.base import Base
from merging.diffusion.refine.concept import Concept, check_phrases, concept_of
from merging.diffusion.refine.judge import Finding, build_judge
from merging.embedding import Embedding
from merging.errors import MergeError
from merging.runtime.progress import Progress, part
from merging.text.syntax import parse_prompt


class FindingData(TypedDict):
    """What is found of one concept in a picture, as plain data."""

    found: bool
    score: float  # above 1 is there
    place: list[float] | None  # x and y, as shares of width and height; None for a style


def judged_concepts(
    files: Sequence[str] | None, drawn: Sequence[tuple[Adapter, float]], base: Base
) -> tuple[list[Concept], list[Embedding]]:
    """The concepts of these files, by default of the drawn adapters; none without --judge.

    And the textual inversions inside them.
    """
    if files is None:
        return [], []
    sources = [parse_file_argument(text).source(base) for text in files]
    pairs = [(source.weighted_adapter, source.strength) for source in sources] or drawn
    if not pairs:
        raise MergeError("--judge: there is no adapter; write the LoRAs' files after --judge.")
    for adapter, _ in pairs:
        if ", " in adapter.trigger:
            raise MergeError(
                f"--judge: {adapter.name} is a merge of several LoRAs ({adapter.trigger}); write "
                "the files of these LoRAs after --judge."
            )
    concepts = [concept_of(base, adapter, strength) for adapter, strength in pairs]
    check_phrases(concepts)
    return concepts, [word for adapter, _ in pairs for word in adapter.embeddings]


def judge_pictures(
    base: Base,
    concepts: Sequence[Concept],
    embeddings: Sequence[Embedding],
    images: Sequence[Image.Image],
    prompts: Sequence[str],
    progress: Progress,
) -> list[tuple[Finding, ...]]:
    """For each picture, what is found of every concept."""
    learning, looking = part(progress, 0.0, 0.7), part(progress, 0.7, 1.0)
    judge = build_judge(base, concepts, embeddings=embeddings, progress=learning)
    return judge.findings(images, [parse_prompt(prompt) for prompt in prompts], looking)


def finding_data(finding: Finding) -> FindingData:
    """One finding for JSON."""
    place = None if finding.place is None else list(finding.place)
    return {"found": finding.present, "score": finding.score, "place": place}

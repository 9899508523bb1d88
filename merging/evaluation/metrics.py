"""The scores of one picture of the benchmark, by the detector and by CLIP.

present  together: every concept in the prompt is found in its look (detector.contains)
alone    alone: the concept's look is the strongest class of all (a style: it is found)
prior    prior: the other object is the strongest class of all
leak     alone and prior: a concept that is not in the prompt is found, above its threshold
text     how well the picture fits its prompt (merging.scoring.clip.text_align)
image    how similar it is to the reference pictures of a concept
         (merging.scoring.clip.image_align); the mean if the prompt has several concepts
Without a detector (any base but the embedded one) there are only ``text`` and ``image``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from PIL import Image
from torch import Tensor

from merging.evaluation.cases import Case, PictureTask
from merging.evaluation.detector import Detector
from merging.scoring.clip import Clip, image_align, text_align

Scores = dict[str, float]  # of one picture, by the names above
METRICS = ("present", "alone", "prior", "leak", "text", "image")


@dataclass(frozen=True)
class Scorers:
    """The networks that score pictures."""

    clip: Clip
    detector: Detector | None = None

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the classes, thresholds and weights of all networks."""
        digest = hashlib.sha256(self.clip.name.encode())
        models = [self.clip.model]
        if self.detector is not None:
            digest.update(repr((self.detector.classes, self.detector.thresholds.tolist())).encode())
            models.append(self.detector)
        for model in models:
            for value in model.state_dict().values():
                digest.update(value.cpu().numpy().tobytes())
        return digest.hexdigest()


def score_pictures(
    scorers: Scorers, case: Case, images: Sequence[Image.Image], references: Mapping[str, Tensor]
) -> list[Scores]:
    """Scores of the pictures, one per task of the case.

    ``references`` are unit embeddings (pictures, width) by trigger.
    """
    rows = _by_clip(scorers.clip, case, images, references)
    if scorers.detector is not None:
        logits = scorers.detector.scores(images).split(1)
        for row, task, logit in zip(rows, case.tasks, logits, strict=True):
            row |= _by_detector(scorers.detector, case, task, logit)
    return rows


def _by_clip(
    clip: Clip, case: Case, images: Sequence[Image.Image], references: Mapping[str, Tensor]
) -> list[Scores]:
    pictures = clip.image_embeddings(images)
    texts = clip.text_embeddings([task.prompt for task in case.tasks])
    rows: list[Scores] = []
    for task, picture, text in zip(case.tasks, pictures, texts, strict=True):
        row = {"text": text_align(picture, text)}
        known = [references[name] for name in task.named if name in references]
        similarities = [image_align(picture, embeddings) for embeddings in known]
        if similarities:
            row["image"] = sum(similarities) / len(similarities)
        rows.append(row)
    return rows


def _by_detector(detector: Detector, case: Case, task: PictureTask, logit: Tensor) -> Scores:
    """Of one picture, from its logits (1, classes)."""
    if task.kind == "together":
        return {"present": float(detector.contains(logit, task.named))}
    right = detector.contains(logit, task.named, strongest=1)
    return {task.kind: float(right), "leak": float(_leaks(detector, case, task, logit))}


def _leaks(detector: Detector, case: Case, task: PictureTask, logit: Tensor) -> bool:
    above = detector.above_threshold(logit)[0]
    return any(
        bool(above[detector.column(name)] & detector.contains(logit, [name]))
        for name in case.triggers
        if name not in task.named
    )

"""What one picture of the benchmark is worth, by the detector and by CLIP.

present  together: every concept named is found in its own look (detector.found)
alone    alone: the concept's look is the strongest class of all (a style: it is found)
prior    prior: the other thing is the strongest class of all
leak     alone and prior: a concept that was not named is found, above its threshold
text     how well the picture fits its prompt (merging.scoring.clip.text_align)
image    how alike it and a concept's reference pictures are
         (merging.scoring.clip.image_align); where several concepts are named, the mean over them
Without a detector (any base but the embedded one) only ``text`` and ``image`` are told.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from PIL import Image
from torch import Tensor

from merging.evaluation.cases import Ask, Case
from merging.evaluation.detector import Detector
from merging.scoring.clip import Clip, image_align, text_align

Scores = dict[str, float]  # of one picture, by the names above
METRICS = ("present", "alone", "prior", "leak", "text", "image")


@dataclass(frozen=True)
class Scorers:
    """The networks that judge."""

    clip: Clip
    detector: Detector | None = None

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of who judges: other classes or other weights are another judge."""
        digest = hashlib.sha256(self.clip.name.encode())
        models = [self.clip.model]
        if self.detector is not None:
            digest.update(repr((self.detector.classes, self.detector.thresholds.tolist())).encode())
            models.append(self.detector)
        for model in models:
            for value in model.state_dict().values():
                digest.update(value.cpu().numpy().tobytes())
        return digest.hexdigest()


def scored(
    scorers: Scorers, case: Case, images: Sequence[Image.Image], references: Mapping[str, Tensor]
) -> list[Scores]:
    """Scores of each picture, one per ask of the case.

    ``references`` are unit embeddings (pictures, width) by trigger.
    """
    rows = _by_clip(scorers.clip, case, images, references)
    if scorers.detector is not None:
        logits = scorers.detector.scores(images).split(1)
        for row, ask, logit in zip(rows, case.asks, logits, strict=True):
            row |= _by_detector(scorers.detector, case, ask, logit)
    return rows


def _by_clip(
    clip: Clip, case: Case, images: Sequence[Image.Image], references: Mapping[str, Tensor]
) -> list[Scores]:
    pictures = clip.image_embeddings(images)
    texts = clip.text_embeddings([ask.prompt for ask in case.asks])
    rows: list[Scores] = []
    for ask, picture, text in zip(case.asks, pictures, texts, strict=True):
        row = {"text": text_align(picture, text)}
        known = [references[name] for name in ask.named if name in references]
        near = [image_align(picture, those) for those in known]
        rows.append(row | ({"image": sum(near) / len(near)} if near else {}))
    return rows


def _by_detector(detector: Detector, case: Case, ask: Ask, logit: Tensor) -> Scores:
    """Of one picture, from its logits (1, classes)."""
    if ask.kind == "together":
        return {"present": float(detector.found(logit, ask.named))}
    right = detector.found(logit, ask.named, strongest=1)
    return {ask.kind: float(right), "leak": float(_leaks(detector, case, ask, logit))}


def _leaks(detector: Detector, case: Case, ask: Ask, logit: Tensor) -> bool:
    passing = detector.present(logit)[0]
    return any(
        bool(passing[detector.place(name)] & detector.found(logit, [name]))
        for name in case.triggers
        if name not in ask.named
    )

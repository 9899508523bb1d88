"""Who judges a merge: a judge gives numbers, on prompts to tune on or on others that are held out.

objective   1 − the paper's objective of each layer, relative to no change, on the inputs that it
            has under each LoRA alone (merging/linalg/closed_form.py); costs no picture
advantage   of each concept that a picture is to show: how far the picture is above that concept's
            threshold, 1 at most (merging/diffusion/refine/judge.py)
clip        how well each picture fits its prompt and, where there are any, the reference pictures
            of the concepts in it (merging/scoring/references.py)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import Literal, Protocol

from PIL import Image
from torch import Tensor

from merging.adapter import Adapter
from merging.base_models import base_model
from merging.calibration.plan import Sweep
from merging.calibration.prompts import composed_prompts, concept_prompts, plain_prompts_of
from merging.calibration.row_sets import row_sets
from merging.calibration.target_layers import GRAM_BYTES, gram_bytes, solved_layers
from merging.diffusion.base import Base
from merging.diffusion.calibrate import activations
from merging.diffusion.refine.concept import concept_of
from merging.diffusion.refine.judge import build_judge
from merging.diffusion.render import render
from merging.errors import MergeError
from merging.linalg.closed_form import LayerProblem, objective, zero_delta
from merging.linalg.delta import Delta, ScaledDeltas
from merging.linalg.row_statistics import RowStatistics
from merging.request import MergeRequest, Source
from merging.runtime.progress import Progress, Stop, part
from merging.runtime.seeds import seed_for
from merging.scoring.clip import load_clip
from merging.scoring.references import build_scorer
from merging.source_deltas import source_deltas
from merging.text.phrases import phrases_in

JudgeName = Literal["objective", "advantage", "clip"]
ENOUGH = 1.0  # of an advantage: the concept is there, and more of it is not better
Rate = Callable[[Sequence[Image.Image], Sequence[str]], list[float]]


class Judge(Protocol):
    """Gives a merge its numbers, of which more is better."""

    def __call__(self, adapter: Adapter, held_out: bool = False) -> list[float]:
        """One number for each layer or picture."""
        ...


@dataclass(frozen=True)
class Pictures:
    """What picture judges draw for each merge."""

    count: int = 4
    steps: int = 12
    references: Mapping[str, Sequence[Path]] = field(default_factory=dict)  # trigger → pictures


def build_judge_of(
    name: JudgeName,
    base: Base,
    request: MergeRequest,
    pictures: Pictures,
    progress: Progress,
    stop: Stop,
) -> Judge:
    """The judge of this name, which imitates the LoRAs at the strengths of the request.

    Raises MergeError for LoRAs without trigger phrases, and for references that cannot be used.
    """
    if name == "objective":
        return LayerJudge(base, request, progress, stop)
    rate = (
        _advantage(base, request, progress, stop) if name == "advantage" else _clip(base, pictures)
    )
    return PictureJudge(base, request, pictures, rate, stop)


class LayerJudge:
    """The layers' objective, from inputs that are gathered once."""

    def __init__(self, base: Base, request: MergeRequest, progress: Progress, stop: Stop) -> None:
        self._halves = [
            _layer_problems(base, half, part(progress, place / 2, (place + 1) / 2), stop)
            for place, half in enumerate(halves(request))
        ]

    def __call__(self, adapter: Adapter, held_out: bool = False) -> list[float]:
        """One number for each layer: 1 where every LoRA is imitated, 0 for no change."""
        changes = ScaledDeltas(adapter.layers, 1.0)
        return [
            1 - objective(problem, _change(changes, problem)) / problem.target_energy
            for problem in self._halves[held_out]
        ]


@dataclass(frozen=True)
class PictureJudge:
    """Draws a merge, and rates the pictures."""

    base: Base
    request: MergeRequest
    pictures: Pictures
    rate: Rate
    stop: Stop

    def __call__(self, adapter: Adapter, held_out: bool = False) -> list[float]:
        """One number for each picture."""
        prompts = _picture_prompts(self.request, self.pictures.count)[held_out]
        first = len(prompts) if held_out else 0
        images = render(
            self.base,
            prompts,
            range(first, first + len(prompts)),
            adapters=[(adapter, 1.0)],
            embeddings=self.request.embeddings,
            steps=self.pictures.steps,
            stop=self.stop,
        )
        return self.rate(images, prompts)


def halves(request: MergeRequest) -> tuple[MergeRequest, MergeRequest]:
    """The request with half of the calibration prompts, and with the other half.

    MergeError for a LoRA with a single prompt of its own.
    """
    texts = [_prompts(request, source) for source in request.sources]
    both = [
        tuple(
            replace(source, prompts=own[start::2])
            for source, own in zip(request.sources, texts, strict=True)
        )
        for start in (0, 1)
    ]
    return replace(request, sources=both[0]), replace(request, sources=both[1])


def _prompts(request: MergeRequest, source: Source) -> tuple[str, ...]:
    seed = seed_for(request.seed, "tuning", source.words)
    own = plain_prompts_of(source.prompts)
    if len(own) == 1:
        raise MergeError(
            f"{source.adapter.name}: tuning needs two prompts or more, to hold some out; give more."
        )
    return own or concept_prompts(source.words, 2 * request.samples, seed)


def _picture_prompts(request: MergeRequest, count: int) -> tuple[Sequence[str], Sequence[str]]:
    """Prompts that name two of the concepts: to tune on, and held out."""
    phrases = [source.words for source in request.sources]
    if not all(phrases):
        raise MergeError("Judging pictures needs a trigger phrase for every LoRA; give --trigger.")
    texts = composed_prompts(phrases, 2 * count, seed_for(request.seed, "tuning"))
    return texts[::2], texts[1::2]


def _layer_problems(
    base: Base, request: MergeRequest, progress: Progress, stop: Stop
) -> list[LayerProblem]:
    """Every solved layer with the inputs that it has under each LoRA alone."""
    request = replace(request, method="regmean", teacher="single", preserve=0.0)
    deltas = tuple(dict(source_deltas(source, [])) for source in request.sources)
    strengths = tuple(source.strength for source in request.sources)
    sets = row_sets(request)
    problems: list[LayerProblem] = []

    def problem(layer: str) -> LayerProblem:
        return LayerProblem(layer, tuple(lora.get(layer) for lora in deltas), strengths)

    def gather(layer: str, weight: Tensor, rows: tuple[RowStatistics, ...]) -> Delta:
        with_rows = replace(problem(layer), weight=weight, rows=rows)
        if with_rows.target_energy > 0:
            problems.append(with_rows)
        return zero_delta(with_rows)

    layers = list(dict.fromkeys(layer for lora in deltas for layer in lora))
    inside = solved_layers(layers, request)
    targets = tuple(name for name in inside if gram_bytes(problem(name), sets) <= GRAM_BYTES)
    sweep = Sweep(
        deltas,
        targets,
        {},
        sets,
        merged_inputs=False,
        rows=request.rows,
        seed=request.seed,
        clip_skip=request.clip_skip,
        embeddings=request.all_embeddings,
    )
    activations(base)(sweep, gather, progress, stop)
    return problems


def _change(changes: ScaledDeltas, problem: LayerProblem) -> Delta:
    return changes[problem.name] if problem.name in changes else zero_delta(problem)


def _advantage(base: Base, request: MergeRequest, progress: Progress, stop: Stop) -> Rate:
    concepts = [
        concept_of(base, source.weighted_adapter, source.strength, source.phrase)
        for source in request.sources
    ]
    words, seed = request.all_embeddings, request.seed
    judge = build_judge(base, concepts, embeddings=words, seed=seed, progress=progress, stop=stop)
    phrases = [concept.phrase for concept in concepts]

    def rate(images: Sequence[Image.Image], prompts: Sequence[str]) -> list[float]:
        rows = judge.findings(images, prompts, stop=stop)
        return [
            fmean(
                min(finding.score, ENOUGH)
                for finding in row
                if finding.phrase in phrases_in(prompt, phrases)
            )
            for row, prompt in zip(rows, prompts, strict=True)
        ]

    return rate


def _clip(base: Base, pictures: Pictures) -> Rate:
    references = list(pictures.references)
    scorer = build_scorer(load_clip(base_model(base.name).clip), pictures.references)

    def rate(images: Sequence[Image.Image], prompts: Sequence[str]) -> list[float]:
        return [
            row.text + sum(row.image[name] for name in phrases_in(prompt, references))
            for row, prompt in zip(scorer.score(images, prompts), prompts, strict=True)
        ]

    return rate

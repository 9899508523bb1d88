"""Row sets: the prompts of every LoRA, and their weights."""

from __future__ import annotations

from merging.calibration.plan import RowSet
from merging.calibration.prompts import (
    LoraPair,
    composed_prompts,
    concept_prompts,
    lora_pairs,
    plain_prompts,
    plain_prompts_of,
)
from merging.methods import METHODS
from merging.request import MergeRequest, Source
from merging.runtime.seeds import seed_for


def row_sets(request: MergeRequest) -> tuple[RowSet, ...]:
    """One set per LoRA, as in the paper; then the sets of pairs, and of preserved prompts."""
    teachers = len(request.sources) + len(composite_pairs(request))
    sets = [
        RowSet(
            source.adapter.name,
            _prompts(request, source),
            weights=_one_hot(i, teachers),
            phrases=(source.words,) if source.words else (),
        )
        for i, source in enumerate(request.sources)
    ]
    if request.teacher == "composed" and len(sets) > 1:
        sets.append(_gated_set(request))
    sets += _composite_sets(request)
    if request.preserve_weight > 0:
        triggers = [source.words for source in request.sources]
        prompts = plain_prompts(request.samples, seed_for(request.seed, "preserved"), triggers)
        sets.append(RowSet("preserved", prompts, (0.0,) * teachers, omega=request.preserve_weight))
    return tuple(sets)


def _gated_set(request: MergeRequest) -> RowSet:
    """All pairs in one set; every LoRA acts on its phrase and region."""
    phrases = tuple(source.words for source in request.sources)
    count, seed = len(phrases), seed_for(request.seed, "composed")
    prompts = composed_prompts(sorted(phrases), request.samples * count // 2, seed)
    omega = request.composed_weight
    return RowSet("composed", prompts, (1.0,) * count, omega, phrases, gated=True)


def _composite_sets(request: MergeRequest) -> list[RowSet]:
    """One set per pair, taught by its composite; together as many prompts as the gate's set."""
    count, pairs = len(request.sources), composite_pairs(request)
    sets = []
    for index, pair in enumerate(pairs):
        phrases = tuple(sorted(request.sources[i].words for i in pair))
        name = f"composed: {' + '.join(phrases)}"
        share = max(1, request.samples * count // (2 * len(pairs)))
        prompts = composed_prompts(phrases, share, seed_for(request.seed, *phrases))
        weights = _one_hot(count + index, count + len(pairs))
        sets.append(RowSet(name, prompts, weights, request.composed_weight / len(pairs), phrases))
    return sets


def _one_hot(index: int, count: int) -> tuple[float, ...]:
    """Weight 1 for teacher ``index`` of ``count``, 0 for the others."""
    return tuple(float(i == index) for i in range(count))


def _prompts(request: MergeRequest, source: Source) -> tuple[str, ...]:
    """The user's prompts, or sentences with the phrase; for Custom Diffusion its two prompts."""
    phrase = source.words
    if METHODS[request.method].on_phrases and phrase:
        return phrase, f"photo of a {phrase}"
    seed = seed_for(request.seed, phrase)
    return plain_prompts_of(source.prompts) or concept_prompts(phrase, request.samples, seed)


def composite_pairs(request: MergeRequest) -> list[LoraPair]:
    """The pairs of LoRAs whose merge by sum or tsv is their teacher; none for other teachers."""
    if request.teacher in ("single", "composed") or not METHODS[request.method].calibrated:
        return []
    return lora_pairs([source.words for source in request.sources])

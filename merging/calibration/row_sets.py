"""Row sets: which prompts count for which LoRA, and how much."""

from __future__ import annotations

from merging.calibration.plan import RowSet
from merging.calibration.prompts import (
    Couple,
    composed_prompts,
    concept_prompts,
    couples,
    plain_prompts,
)
from merging.methods import METHODS
from merging.request import MergeRequest, Source
from merging.runtime.seeds import seed_for


def row_sets(request: MergeRequest) -> tuple[RowSet, ...]:
    """One set per LoRA, on its own prompts under itself (the paper's); then what goes beyond it."""
    teachers = len(request.sources) + len(taught_couples(request))
    sets = [
        RowSet(
            source.adapter.name,
            _own_prompts(request, source),
            weights=_alone(i, teachers),
            phrases=(source.phrase,) if source.phrase else (),
        )
        for i, source in enumerate(request.sources)
    ]
    if request.teacher == "composed" and len(sets) > 1:
        sets.append(_by_gate(request))
    sets += _by_composites(request)
    if request.preserved > 0:
        triggers = [source.phrase for source in request.sources]
        prompts = plain_prompts(request.samples, seed_for(request.seed, "preserved"), triggers)
        sets.append(RowSet("preserved", prompts, (0.0,) * teachers, omega=request.preserved))
    return tuple(sets)


def _by_gate(request: MergeRequest) -> RowSet:
    """All couples in one set, every LoRA on its own words and region."""
    phrases = tuple(source.phrase for source in request.sources)
    count, seed = len(phrases), seed_for(request.seed, "composed")
    prompts = composed_prompts(sorted(phrases), request.samples * count // 2, seed)
    omega = request.composed_weight
    return RowSet("composed", prompts, (1.0,) * count, omega, phrases, gated=True)


def _by_composites(request: MergeRequest) -> list[RowSet]:
    """A set for each couple, under its own composite; together they are as many as the gate's."""
    count, pairs = len(request.sources), taught_couples(request)
    sets = []
    for place, pair in enumerate(pairs):
        phrases = tuple(sorted(request.sources[i].phrase for i in pair))
        name = f"composed: {' + '.join(phrases)}"
        share = max(1, request.samples * count // (2 * len(pairs)))
        prompts = composed_prompts(phrases, share, seed_for(request.seed, *phrases))
        weights = _alone(count + place, count + len(pairs))
        sets.append(RowSet(name, prompts, weights, request.composed_weight / len(pairs), phrases))
    return sets


def _alone(place: int, count: int) -> tuple[float, ...]:
    """The weights of a teacher that is one of so many, undisturbed."""
    return tuple(float(i == place) for i in range(count))


def _own_prompts(request: MergeRequest, source: Source) -> tuple[str, ...]:
    """What the user gave, or sentences with the phrase; Custom Diffusion's two where it merges."""
    phrase = source.phrase
    if METHODS[request.method].on_phrases and phrase:
        return phrase, f"photo of a {phrase}"
    seed = seed_for(request.seed, phrase)
    return source.prompts or concept_prompts(phrase, request.samples, seed)


def taught_couples(request: MergeRequest) -> list[Couple]:
    """The pairs of LoRAs that a merge of two weights teaches together; none for another teacher."""
    if request.teacher in ("single", "composed") or not METHODS[request.method].calibrated:
        return []
    return couples([source.phrase for source in request.sources])

"""How well LoRAs fit a prompt, by its words and by what CLIP makes of them.

A LoRA whose trigger the prompt names has score 1 and comes first. Any other one has

    score = 1 − Π over the prompt's words (1 − weight / 5) · (1 − 0.9 · evidence)

with the weight of the field that has the word, 4 for the trigger to 1 for a caption
(`merging.retrieval.words`), and CLIP's evidence (`merging.retrieval.clip_reader`): each hint takes
away its share of the doubt. No LoRA's score depends on another one's, but for triggers: where
“sks cat girl” is named, “sks cat” is not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod

from merging.retrieval.words import Described, hits, terms_of, things_in
from merging.text.phrases import phrases_in
from merging.text.syntax import plain_text

FULL = 5  # of a field's weight: a whole word of the trigger, 4, leaves a fifth of the doubt
TRUST = 0.9  # in CLIP's evidence, however sure it is
DIGITS = 2  # of a score: a smaller difference means nothing, and equals keep their order
LEAST = 0.15  # of a score: one word of a caption gives 0.2

# Things of a prompt and the places of LoRAs → evidence for each of these, 0 to 1.
Evidence = Callable[[Sequence[str], Sequence[int]], Sequence[float]]


@dataclass(frozen=True)
class Fit:
    """How well one LoRA fits."""

    place: int  # of the LoRA, as they were given
    score: float  # 0 to 1
    named: bool  # its trigger is in the prompt


def fits(prompt: str, loras: Sequence[Described], evidence: Evidence | None = None) -> list[Fit]:
    """The LoRAs with a score of LEAST or more, the best first; of equals the earlier one.

    Without ``evidence`` by words alone. The prompt may have A1111's syntax.
    """
    plain = plain_text(prompt)
    terms, triggers = terms_of(plain), [plain_text(lora.trigger) for lora in loras]
    named = set(phrases_in(plain, triggers)) - {""}
    others = [place for place, trigger in enumerate(triggers) if trigger not in named]
    things = things_in(plain)
    seen = evidence(things, others) if evidence and things and others else [0.0] * len(others)
    found = [Fit(place, 1.0, True) for place, text in enumerate(triggers) if text in named]
    found += [
        Fit(place, _score(hits(loras[place], terms), strength), False)
        for place, strength in zip(others, seen, strict=True)
    ]
    ranked = sorted(found, key=lambda fit: (not fit.named, -fit.score, fit.place))
    return [fit for fit in ranked if fit.score >= LEAST]


def _score(weights: Sequence[int], evidence: float) -> float:
    doubt = prod(1 - weight / FULL for weight in weights) * (1 - TRUST * evidence)
    return round(1 - doubt, DIGITS)

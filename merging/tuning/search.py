"""The search itself: CMA-ES, and random strengths with the same budget beside it.

The baseline is what studies of adaptive merging ask for: tuned weights often do no better than
random ones. CMA-ES is the package cma (Hansen, arXiv:1604.00772), as Evo-Merging (arXiv:2509.12951)
uses for language models.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, count
from typing import Literal

import cma
import numpy as np

from merging.errors import MergeError
from merging.runtime.progress import Stop, never

Kind = Literal["as given", "random", "tuned"]
Factors = tuple[float, ...]  # of the strengths as they were given

LOW, HIGH = 0.05, 2.0  # at 0 a LoRA would not be merged at all
FIRST_STEP = 0.3  # standard deviation of the first strengths around the given ones
SEEDS = 2**64
DIGITS = 4  # of a factor, so that what is printed is what was tried


@dataclass(frozen=True)
class Trial:
    """One try: the factors and the judge's score, of which more is better."""

    kind: Kind
    factors: Factors
    score: float


def search(
    score: Callable[[Factors], float],
    size: int,
    budget: int,
    seed: int,
    known: Sequence[Trial] = (),
    enough: Stop = never,
) -> Iterator[Trial]:
    """The strengths as given, then in turns ``budget`` random ones and as many by CMA-ES.

    ``known`` are the first trials of the same search, which are not scored again. The search ends
    early once ``enough`` is true. Raises MergeError for fewer than two factors, and for trials that
    this search would not make.
    """
    if size < 2:
        raise MergeError("Tuning balances LoRAs with each other: name at least two, or --blocks.")
    if len(known) > 2 * budget + 1:
        raise MergeError(f"The search has {len(known)} trials already; give it a larger --budget.")
    tuned, randoms = _evolution(size, seed), _random(size, seed)
    plan: Iterator[tuple[Kind, Generator[Factors, float, None]]] = chain(
        [("as given", _given(size))],
        chain.from_iterable((("random", randoms), ("tuned", tuned)) for _ in range(budget)),
    )
    answers: dict[Kind, float] = {}
    for place, (kind, proposals) in enumerate(plan):
        if place >= len(known) and enough():
            return
        factors = proposals.send(answers[kind]) if kind in answers else next(proposals)
        trial = known[place] if place < len(known) else Trial(kind, factors, score(factors))
        if (trial.kind, trial.factors) != (kind, factors):
            raise MergeError("The trials so far are those of another version; begin anew.")
        answers[kind] = trial.score
        yield trial


def _given(size: int) -> Generator[Factors, float, None]:
    yield (1.0,) * size


def _numbers(seed: int, purpose: int) -> np.random.Generator:
    """A generator for a purpose; torch takes seeds from -2**63 on, numpy none below 0."""
    return np.random.default_rng([seed % SEEDS, purpose])


def _random(size: int, seed: int) -> Generator[Factors, float, None]:
    """Even over the whole range."""
    numbers = _numbers(seed, 1)
    while True:
        yield _rounded(numbers.uniform(LOW, HIGH, size))


def _evolution(size: int, seed: int) -> Generator[Factors, float, None]:
    """CMA-ES around the strengths as given; takes the score of every proposal."""
    numbers = _numbers(seed, 2)
    options = {
        "bounds": [LOW, HIGH],
        "seed": np.nan,  # numpy's global generator is left alone
        "randn": lambda *shape: numbers.standard_normal(shape),
        "verbose": -9,
    }
    strategy = cma.CMAEvolutionStrategy([1.0] * size, FIRST_STEP, options)
    for _ in count():
        points = strategy.ask()
        losses = []
        for point in points:
            score = yield _rounded(point)
            losses.append(-score)
        strategy.tell(points, losses)


def _rounded(point: np.ndarray) -> Factors:
    return tuple(round(float(value), DIGITS) for value in point)


def best(trials: Sequence[Trial], kind: Kind) -> Trial | None:
    """The best trial of a kind, the first of equals; None if there is none."""
    of_kind = [trial for trial in trials if trial.kind == kind]
    return max(of_kind, key=lambda trial: trial.score, default=None)

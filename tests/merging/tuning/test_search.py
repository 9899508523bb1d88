"""The search on plain functions: what it tries, that it is resumed, and its verdict."""

from __future__ import annotations

import numpy as np
import pytest

from merging.errors import MergeError
from merging.tuning.run import verdict
from merging.tuning.search import HIGH, LOW, Factors, Trial, best, search


def hill(factors: Factors) -> float:
    """Highest at 0.6, 1.5, 1.5 …"""
    peak = [0.6, *[1.5] * (len(factors) - 1)]
    return -sum((a - b) ** 2 for a, b in zip(factors, peak, strict=True))


def test_it_begins_as_given_and_takes_turns() -> None:
    trials = list(search(hill, 3, 10, seed=0))
    assert [trial.kind for trial in trials] == ["as given", *["random", "tuned"] * 10]
    assert trials[0] == Trial("as given", (1.0, 1.0, 1.0), hill((1.0, 1.0, 1.0)))
    assert all(LOW <= factor <= HIGH for trial in trials for factor in trial.factors)
    assert all(trial.score == hill(trial.factors) for trial in trials)


@pytest.mark.parametrize("seed", range(3))
def test_it_climbs_a_hill_better_than_chance(seed: int) -> None:
    trials = list(search(hill, 4, 300, seed))
    tuned, random = best(trials, "tuned"), best(trials, "random")
    assert tuned and random
    assert tuned.score > -1e-3 > random.score


def test_the_seed_decides_and_the_global_generator_does_not() -> None:
    np.random.seed(0)
    before = np.random.get_state()[1].copy()  # type: ignore[index, union-attr]
    one = list(search(hill, 3, 12, seed=1))
    assert (np.random.get_state()[1] == before).all()  # type: ignore[index]
    np.random.seed(5)
    assert list(search(hill, 3, 12, seed=1)) == one
    assert list(search(hill, 3, 12, seed=2)) != one
    assert list(search(hill, 3, 12, seed=-1)) != one, "numpy itself takes no seed below 0"


@pytest.mark.parametrize("stored", [0, 1, 2, 9, 16])
def test_it_goes_on_from_stored_trials(stored: int) -> None:
    whole = list(search(hill, 2, 10, seed=3))
    scored: list[Factors] = []

    def score(factors: Factors) -> float:
        scored.append(factors)
        return hill(factors)

    assert list(search(score, 2, 10, seed=3, known=whole[:stored])) == whole
    assert scored == [trial.factors for trial in whole[stored:]]


def test_it_ends_when_time_is_over_but_not_before_what_is_known() -> None:
    assert list(search(hill, 2, 10, seed=3, enough=lambda: True)) == []
    whole = list(search(hill, 2, 10, seed=3))
    assert list(search(hill, 2, 10, 3, whole[:5], enough=lambda: True)) == whole[:5]


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(MergeError, match="name at least two"):
        list(search(hill, 1, 10, seed=0))
    whole = list(search(hill, 2, 10, seed=3))
    with pytest.raises(MergeError, match="21 trials already; give it a larger --budget"):
        list(search(hill, 2, 9, seed=3, known=whole))
    with pytest.raises(MergeError, match="of another version"):
        list(search(hill, 2, 10, seed=4, known=whole))


def test_better_is_reported_only_where_it_is_clear() -> None:
    given, up = [0.5, 0.6, 0.4, 0.5], [0.6, 0.71, 0.5, 0.62]
    noisy = [0.9, 0.2, 0.8, 0.2]
    assert verdict({"as given": given, "random": given, "tuned": up})[0] == "tuned"
    assert (
        "than the best of as many random"
        in verdict({"as given": given, "random": given, "tuned": up})[1]
    )
    assert (
        "not clearly better than the best of as many random ones"
        in verdict({"as given": given, "random": up, "tuned": up})[1]
    )
    for tuned in (given, noisy):
        kind, words = verdict({"as given": given, "random": given, "tuned": tuned})
        assert kind == "as given" and words.startswith("Tuning did not help")
    assert verdict({"as given": given})[0] == "as given"

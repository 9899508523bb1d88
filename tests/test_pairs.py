"""The measurement of pairs, small: a few pictures, two ways, every step of it real."""

from __future__ import annotations

import pytest

from merging.diffusion.base import Base
from merging.evaluation import pairs
from merging.evaluation.detector import load_detector
from merging.evaluation.shelf import shelf_pairs


def test_ways_and_pairs_become_a_table(base: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    """The base draws none of the looks and all that it knows; a sum draws some."""
    monkeypatch.setattr(pairs, "SEEDS", 2)
    monkeypatch.setattr(pairs, "OTHERS", 3)
    ways = {key: pairs.WAYS[key] for key in ("base", "sum")}
    figures = pairs.evaluate_ways(base, load_detector(), ways, lambda _share, _text: None)
    untouched = {"both": 0.0, "alone": 0.0, "prior": 1.0}
    assert figures["shares"]["base"] == dict.fromkeys(shelf_pairs(), untouched)
    summed = figures["shares"]["sum"].values()
    assert any(shares["both"] > 0 or shares["alone"] > 0 for shares in summed)
    lines = pairs.table(figures).splitlines()
    assert len(lines) == 4 and lines[2].startswith("| base | 0.00 · 0.00 · 1.00 |")


def test_both_orders_and_either_concept_are_asked_for() -> None:
    (pair, *_) = shelf_pairs().values()
    triggers = [entry.trigger for entry in pair]
    prompts = list(pairs._both(triggers))
    assert len(set(prompts)) == 2 and prompts[0::2] == [prompts[0]] * (pairs.SEEDS // 2)
    assert prompts[0].index(triggers[0]) < prompts[0].index(triggers[1])
    assert prompts[1].index(triggers[0]) > prompts[1].index(triggers[1])
    assert set(pairs._either(triggers)) == {f"a photo of a {trigger}" for trigger in triggers}


def test_other_things_are_about_neither_concept() -> None:
    for pair in shelf_pairs().values():
        others = pairs._others(load_detector(), pair)
        assert len(set(others)) == pairs.OTHERS
        assert not {entry.object for entry in pair} & set(others)

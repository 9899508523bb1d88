"""The measurement of pairs, small: two seeds, two ways, every step of it real."""

from __future__ import annotations

import pytest

from merging.diffusion.base import Base
from merging.evaluation import pairs
from merging.evaluation.detector import load_detector
from merging.evaluation.shelf import shelf_pairs


def test_ways_and_pairs_become_a_table(base: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairs, "SEEDS", 2)
    ways = {key: pairs.WAYS[key] for key in ("base", "sum")}
    figures = pairs.evaluate_ways(base, load_detector(), ways, lambda _share, _text: None)
    assert figures["both"]["base"] == dict.fromkeys(shelf_pairs(), 0.0)
    assert all(0 <= share <= 1 for share in figures["both"]["sum"].values())
    lines = pairs.table(figures).splitlines()
    assert len(lines) == 4 and lines[2].startswith("| base | 0.00 | 0.00 | 0.00 | 0.00 |")


def test_both_orders_are_asked_for() -> None:
    (pair, *_) = shelf_pairs().values()
    prompts = list(pairs._prompts(pair))
    assert len(set(prompts)) == 2 and prompts[0::2] == [prompts[0]] * (pairs.SEEDS // 2)
    assert prompts[0].index(pair[0].trigger) < prompts[0].index(pair[1].trigger)
    assert prompts[1].index(pair[0].trigger) > prompts[1].index(pair[1].trigger)

"""The judge beside the detector: what the table counts, and one small case."""

from __future__ import annotations

from dataclasses import replace

import pytest

from merging.evaluation import judge_agreement
from merging.evaluation.bundled_cases import shelf_cases
from merging.evaluation.cells import Arena
from merging.evaluation.detector import load_detector
from merging.evaluation.judge_agreement import Look, judged_cases, looks, table
from merging.runtime.progress import silent


def test_a_threshold_at_a_quarter_is_half_of_that_midway() -> None:
    """At 0.25 the first is missed and the second found; at 0.5 the second is missed, too."""
    rows = [Look("tsv", 0.4, seen=True), Look("tsv", 0.9, seen=True), Look("base", 0.6, seen=False)]
    lines = table(rows).splitlines()
    tsv, everything = (next(line for line in lines if line.startswith(f"| {way} ")) for way in
                       ("tsv", "all"))  # fmt: skip
    assert tsv.split(" | ")[1:] == [
        "2",
        "2",
        "1.00 (missed 0, more 0)",
        "0.50 (missed 1, more 0)",
        "0.00 (missed 2, more 0)",
        "0.00 (missed 2, more 0) |",
    ]
    assert "0.33 (missed 1, more 1)" in everything


@pytest.mark.slow
def test_every_concept_is_looked_for_in_every_way(
    arena: Arena, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("merging.diffusion.refine.judge.JUDGE_PICTURES", 1)
    monkeypatch.setattr("merging.diffusion.refine.judge.JUDGE_STEPS", 6)
    monkeypatch.setattr(judge_agreement, "WAYS", ("base", "stack"))
    detector = load_detector()
    cases = {case.name: case for case in judged_cases(shelf_cases("tuning", 1, detector.things))}
    assert "cat-outline" not in cases, "a style"
    pair = replace(cases["cat-dog"], tasks=cases["cat-dog"].tasks[:1])
    found = looks(replace(arena, steps=2), detector, [pair], silent)
    assert [look.way for look in found] == ["base", "base", "stack", "stack"]
    assert not any(look.found(0.5) or look.seen for look in found[:2])

"""Every way to compose while drawing takes part in the contest."""

from __future__ import annotations

from dataclasses import replace

import pytest

from merging.diffusion.compose import COMPOSITIONS
from merging.evaluation.bundled_cases import shelf_cases
from merging.evaluation.cells import Arena, compute_cell, stripes
from merging.evaluation.contestants import CONTESTANTS
from merging.evaluation.detector import load_detector
from merging.io.regions import Region
from merging.runtime.progress import silent


def test_every_composition_is_a_contestant() -> None:
    entered = {contestant.compose for contestant in CONTESTANTS.values()}
    assert entered == set(COMPOSITIONS)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, row in COMPOSITIONS.items() if row.needs])
def test_a_composition_draws_its_cell(arena: Arena, name: str) -> None:
    """An object in a style: together, each alone, and something else."""
    cases = {case.name: case for case in shelf_cases("all", 1, load_detector().things)}
    case = cases["pizza-zqx"]
    kinds = {(task.kind, task.named): task for task in case.tasks}
    assert {kind for kind, _ in kinds} == {"together", "alone", "prior"}
    result = compute_cell(arena, name, replace(case, tasks=tuple(kinds.values())), silent)
    assert (result.failed, len(result.scores)) == ("", len(kinds))


def test_things_stand_side_by_side() -> None:
    assert stripes(["a cat", "ink style", "a dog"]) == [
        Region("a cat", (0.0, 0.0, 0.5, 1.0)),
        Region("a dog", (0.5, 0.0, 1.0, 1.0)),
    ]
    assert stripes(["ink style"]) == []

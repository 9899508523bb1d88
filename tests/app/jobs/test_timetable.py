"""The bar of a whole job: how far it is, and how long it still takes."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from app.jobs.queue import Step
from app.jobs.timing.pace import Stage
from app.jobs.timing.timetable import Timetable

COSTS = (("drawing", 50), ("drawing", 50), ("merging", 1000), ("drawing", 50))


class Clock:
    """A clock that is told what the time is."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def told(stages: Sequence[Stage], seconds: Sequence[float]) -> list[tuple[float, Step]]:
    """Every Step with its time, of stages that take so many seconds and report ten times each."""
    clock, steps = Clock(), list[Step]()
    timetable = Timetable(lambda item: steps.append(item), stages, clock)  # type: ignore[arg-type]
    times = []
    for length in seconds:
        progress = timetable.next_stage()
        for tenth in range(10):
            progress(tenth / 10, "working")
            times.append(clock.now - 100)
            clock.now += length / 10
    return list(zip(times, steps, strict=True))


@pytest.mark.parametrize("rate", [0.01, 1.0])
@pytest.mark.parametrize("merging", [0.3, 1.0, 3.0])  # what it takes, beside what it was to cost
def test_the_second_half_is_predicted_within_a_factor(rate: float, merging: float) -> None:
    stages = [Stage(kind, cost) for kind, cost in COSTS]
    factors = [merging if kind == "merging" else 1.0 for kind, _ in COSTS]
    seconds = [rate * stage.cost * factor for stage, factor in zip(stages, factors, strict=True)]
    whole = sum(seconds)
    steps = told(stages, seconds)
    shares = [step.share for _, step in steps]
    assert shares == sorted(shares) and shares[0] >= 0 and shares[-1] < 1
    late = [(whole - now, step) for now, step in steps if now >= whole / 2]
    assert late
    for left, step in late:
        assert step.left is not None
        assert left / 1.5 <= step.left <= 1.5 * left
        assert step.share == pytest.approx(1 - left / whole, abs=0.2)


def test_nothing_is_promised_before_anything_is_known() -> None:
    stages = [Stage("drawing", 1), Stage("merging", 9)]
    first, second, *_ = told(stages, [10, 90])
    assert first[1].left is None and second[1].left is None
    (_, third) = told(stages, [10, 90])[2]
    assert third.left == pytest.approx(98)

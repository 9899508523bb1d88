"""The waiting line: its order, its bounds, and that nobody is shut out."""

from __future__ import annotations

import random

import pytest

from app.jobs.line import Line, Place
from merging.errors import MergeError
from tests.app.jobs.simulate_line import simulate
from tests.conftest import ROOT


def served(line: Line) -> list[str]:
    """The owners in the order in which they begin, each ended before the next begins."""
    order = []
    while line.waiting:
        for place in line.running:
            line.leave(place)
        first = line.waiting[0]
        assert line.begin(first)
        order.append(first.owner)
    return order


def test_one_clients_jobs_come_in_order() -> None:
    line = Line()
    for owner in "abc":
        line.join(owner, "one")
    assert served(line) == ["a", "b", "c"]


def test_clients_take_turns() -> None:
    line = Line()
    for owner in ("a1", "a2", "a3", "b1", "b2", "c1"):
        line.join(owner, owner[0])
    assert served(line) == ["a1", "b1", "c1", "a2", "b2", "a3"]


def test_a_newcomer_waits_for_the_job_at_work_alone() -> None:
    """Whatever one client has brought before, and however long it has been served."""
    line = Line(max_waiting=100, max_per_client=100)
    places = [line.join(str(n), "greedy") for n in range(24)]
    for done, place in enumerate(places[:-1]):
        assert line.begin(place)
        newcomer = line.join("new", f"newcomer {done}")
        assert line.before(newcomer) == 1
        line.leave(place)
        assert line.begin(newcomer)
        line.leave(newcomer)


def test_who_comes_again_waits_no_longer_than_the_others() -> None:
    line = Line()
    line.begin(first := line.join("a1", "a"))
    line.join("b1", "b")
    line.leave(first)
    line.join("a2", "a")
    line.join("b2", "b")
    assert served(line) == ["b1", "a2", "b2"]


def test_a_second_job_is_not_put_off_for_ever() -> None:
    """However many clients come, it is before every job that joins after its round began."""
    line = Line(max_waiting=1000)
    line.join("a1", "a")
    line.join("a2", "a")
    others = [line.join(f"b{n}", f"b{n}") for n in range(5)]
    assert served(line)[-1] == "a2" and len(others) == 5


@pytest.mark.parametrize("slots", [1, 2, 5])
def test_laws_hold_for_any_history(slots: int) -> None:
    """No more at work than slots; one job per owner; who is told 0 may begin, and nobody else."""
    chance = random.Random(slots)
    line, places = Line(slots, max_waiting=10, max_per_client=4), list[Place]()
    for _ in range(3000):
        if places and chance.random() < 0.45:
            line.leave(places.pop(chance.randrange(len(places))))
        else:
            owner = chance.choice("abcdefghijklmnop")
            try:
                places.append(line.join(owner, owner if owner < "h" else "many"))
            except MergeError:
                assert line.of(owner) or len(line.waiting) >= 10 or owner >= "h"
        free = max(0, slots - len(line.running))
        told = [line.before(place) for place in line.waiting]
        assert told == sorted(told)
        assert told.count(0) == min(free and 1, len(told))
        for place in chance.sample(line.waiting, len(line.waiting)):
            assert line.begin(place) == (line.running[-1:] == [place] or place.begun)
        assert len(line.running) <= slots
        assert len({place.owner for place in places}) == len(places)
        assert sum(place.client == "many" for place in places) <= 4


def test_an_owner_has_one_job_and_a_client_a_few() -> None:
    line = Line(max_per_client=2)
    first = line.join("a", "one")
    with pytest.raises(MergeError, match="still running"):
        line.join("a", "one")
    line.join("b", "one")
    with pytest.raises(MergeError, match="2 jobs from your address"):
        line.join("c", "one")
    line.join("d", "other")
    line.leave(first)
    line.join("c", "one")


def test_a_full_line_is_refused_and_a_free_slot_is_not() -> None:
    line = Line(slots=2, max_waiting=1)
    for owner in "ab":
        line.begin(line.join(owner, owner))
    line.join("c", "c")
    with pytest.raises(MergeError, match="Too many"):
        line.join("d", "d")


def test_a_lost_worker_starts_nothing_and_a_new_one_does() -> None:
    """Slots may go and come back while jobs wait."""
    line = Line(slots=2)
    line.begin(one := line.join("a"))
    line.begin(line.join("b"))
    waiting = line.join("c")
    line.slots = 1
    line.leave(one)
    assert not line.begin(waiting)
    line.slots = 2
    assert line.begin(waiting)


def test_the_line_forgets_clients_that_are_done() -> None:
    line = Line()
    for n in range(1000):
        place = line.join(str(n), f"client {n}")
        line.begin(place)
        line.leave(place)
        line.begin(again := line.join("again", "steady"))
        line.leave(again)
    assert len(line._last_turns) < 10


@pytest.mark.parametrize(("slots", "visitors"), [(1, 10), (1, 100), (8, 100), (64, 100)])
def test_the_simulation_gives_the_documented_table(slots: int, visitors: int) -> None:
    row = f"| {slots} | {visitors} | {' | '.join(simulate(slots, visitors).cells(slots))} |"
    assert row in (ROOT / "docs" / "scale.md").read_text("utf-8").splitlines()

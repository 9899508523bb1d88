"""What every executor promises, over real merges and pictures on the embedded base.

Each law runs over every kind of slot; those with workers of their own have two, and lose some.
"""

from __future__ import annotations

import os
import pickle
import signal
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from app.jobs.engine import Engine
from app.jobs.line import Place, line_of
from app.jobs.queue import Executor, Step
from app.jobs.slots import slots_of
from app.schemas.merge import MergeOrder, SelectedFile
from app.schemas.task import Kind, Task
from app.settings.model import Settings
from merging.errors import Cancelled, MergeError
from tests.app.jobs.executor_visits import (
    DRAW,
    LONG,
    MERGE,
    ORDERS,
    PICKS,
    ZEROGPU,
    Visit,
    at_work,
    contents,
    here,
    relative,
    worker_of,
)

pytestmark = pytest.mark.slow

KINDS = ("zerogpu",) if ZEROGPU else ("one local slot", "local", "ray")
MISSING = {"ray": "requirements-ray.txt"}


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Torch's threads, here and in the workers: their number shows in a picture's last digits."""
    before = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("RAY_worker_niceness", "0")  # Ray's 15 would wait for all else that runs
        torch.set_num_threads(1)
        yield
        torch.set_num_threads(before)


@pytest.fixture(scope="module", params=KINDS)
def executor(request: Any, one_thread: None, tmp_path_factory: Any) -> Iterator[Executor]:
    """An executor as the app makes it."""
    kind = request.param
    if kind in MISSING:
        pytest.importorskip(kind, reason=f"{MISSING[kind]} is not installed")
    local = kind in ("one local slot", "local")
    settings = Settings(
        work=tmp_path_factory.mktemp("executor"),
        device="cpu",
        executor="local" if local else kind,
        slots=1 if kind == "one local slot" else 2,
        public=True,
    )
    made = Executor(slots_of(settings, lambda: Engine(settings)), line_of(settings))
    try:
        yield made
    finally:
        made.close(patience=30)


@pytest.fixture(scope="module")
def engine(one_thread: None) -> Engine:
    """The library's own work, in this process."""
    return Engine(Settings(work=Path(), device="cpu"))


@pytest.fixture(scope="module")
def expected(engine: Engine, tmp_path_factory: Any) -> dict[Kind, tuple[Path, list[Any]]]:
    """Of each order the library's files and results."""
    root = tmp_path_factory.mktemp("expected")
    return {
        kind: (root / kind, here(engine, kind, order, root / kind))
        for kind, order in ORDERS.items()
    }


def test_orders_and_results_pickle(expected: dict[Kind, tuple[Path, list[Any]]]) -> None:
    for kind, order in ORDERS.items():
        for item in (order, *expected[kind][1]):
            assert pickle.loads(pickle.dumps(item)) == item


@pytest.mark.slow(40)
@pytest.mark.parametrize("kind", ORDERS)
def test_the_files_are_the_librarys_own(
    executor: Executor,
    kind: Kind,
    expected: dict[Kind, tuple[Path, list[Any]]],
    tmp_path: Path,
) -> None:
    visit = Visit(executor, "a", Task(kind, ORDERS[kind], tmp_path)).ended()
    folder, results = expected[kind]
    assert contents(tmp_path) == contents(folder)
    assert [relative(item, tmp_path) for item in visit.results] == [
        relative(item, folder) for item in results
    ]
    shares = [step.share for step in visit.steps]
    assert shares == sorted(shares)


def test_clients_take_turns_and_no_more_work_than_there_are_slots(
    executor: Executor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slots, begin, began = len(executor._slots), executor._line.begin, list[str]()

    def note(place: Place) -> bool:
        if begun := begin(place):
            began.append(place.owner)
        return begun

    first = [Visit(executor, f"first {n}", Task("draw", LONG, tmp_path)) for n in range(slots)]
    for visit in first:
        visit.reach(at_work(visit))
    queue = []
    for owner in ("x1", "x2", "y1"):
        queue.append(Visit(executor, owner, Task("load"), owner[0]))
        queue[-1].reach(lambda: bool(queue[-1].steps))
    assert queue[0].steps[0].text == "Waiting: one job is before yours", "of all at work"
    monkeypatch.setattr(executor._line, "begin", note)
    executor.stop("first 0")
    for visit in queue:
        visit.ended()
    assert began == ["x1", "y1", "x2"]
    for number, visit in enumerate(first):
        executor.stop(f"first {number}")
        visit.join()
        assert isinstance(visit.error, Cancelled)


def test_a_stop_ends_the_work_and_its_slot_does_the_next(
    executor: Executor, tmp_path: Path
) -> None:
    visit = Visit(executor, "a", Task("draw", LONG, tmp_path))
    visit.reach(at_work(visit))
    assert executor.stop("a")
    visit.join()
    assert isinstance(visit.error, Cancelled)
    assert not visit.results, "of 200 steps some were left"
    assert len(executor._free) == len(executor._slots)
    Visit(executor, "a", Task("load")).ended()


def test_who_leaves_frees_a_slot_once_the_work_has_ended(
    executor: Executor, tmp_path: Path
) -> None:
    """The slot's next task would else run into an answer to this one."""
    with closing(executor.run("a", Task("draw", LONG, tmp_path))) as job:
        while not (isinstance(item := next(job), Step) and "step" in item.text):
            assert len(executor._free) < len(executor._slots)
    assert len(executor._free) == len(executor._slots)
    assert not any(thread.name == "iteris-job" for thread in threading.enumerate())
    assert not [item for item in executor.run("b", Task("load")) if not isinstance(item, Step)]


@pytest.mark.parametrize(
    ("order", "sentence"),
    [
        (replace(MERGE, picks=(PICKS[0], SelectedFile(Path("gone"), "dog"))), "dog"),
        (replace(MERGE, picks=(PICKS[0], SelectedFile(Path(__file__), "text"))), "text"),
        (MergeOrder(PICKS, base="no/such-base"), "no/such-base"),
    ],
    ids=["no file", "no LoRA", "no base"],
)
def test_a_refusal_arrives_as_the_librarys_sentence(
    executor: Executor, engine: Engine, order: MergeOrder, sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(MergeError, match=sentence) as expected:
        here(engine, "merge", order, tmp_path / "here")
    with pytest.raises(MergeError) as refused:
        Visit(executor, "a", Task("merge", order, tmp_path)).ended()
    assert str(refused.value) == str(expected.value)
    assert type(refused.value) is type(expected.value)


def test_a_defect_is_no_refusal(executor: Executor, tmp_path: Path) -> None:
    """No visitor can send this: an order of another kind."""
    with pytest.raises(Exception, match="has no attribute") as failed:
        Visit(executor, "a", Task("merge", ORDERS["batch"], tmp_path)).ended()
    assert not isinstance(failed.value, MergeError)


def test_an_owner_has_one_job(executor: Executor, tmp_path: Path) -> None:
    visit = Visit(executor, "a", Task("draw", LONG, tmp_path))
    visit.reach(lambda: bool(visit.steps))
    with pytest.raises(MergeError, match="still running"):
        next(executor.run("a", Task("merge", MERGE, tmp_path)))
    executor.stop("a")
    visit.join()


@pytest.fixture
def mortal(executor: Executor) -> Executor:
    """An executor with workers that can be killed."""
    if len(executor._slots) == 1:
        pytest.skip("its worker is this process")
    return executor


def test_steps_come_while_the_worker_says_nothing(mortal: Executor, tmp_path: Path) -> None:
    """The executor repeats the last one, so that its consumer can leave."""
    visit = Visit(mortal, "a", Task("draw", LONG, tmp_path))
    visit.reach(at_work(visit))
    worker = worker_of(mortal, "a")
    os.kill(worker, signal.SIGSTOP)
    known = len(visit.steps)
    visit.reach(lambda: len(visit.steps) > known + 3)
    os.kill(worker, signal.SIGCONT)
    mortal.stop("a")
    visit.join()
    assert isinstance(visit.error, Cancelled)


@pytest.mark.slow(15)
def test_a_job_outlives_its_worker(
    mortal: Executor, expected: dict[Kind, tuple[Path, list[Any]]], tmp_path: Path
) -> None:
    """A free slot begins it anew; what it has emitted does not come twice."""
    visit = Visit(mortal, "a", Task("draw", DRAW, tmp_path / "a"))
    visit.reach(lambda: bool(visit.results))
    os.kill(worker_of(mortal, "a"), signal.SIGKILL)
    visit.ended()
    assert any("begins anew" in step.text for step in visit.steps)
    assert len(mortal._free) == len(mortal._slots)
    _, results = expected["draw"]
    for got, own in zip(visit.results, results, strict=True):
        assert got.path.read_bytes() == own.path.read_bytes()


@pytest.mark.slow(30)
def test_the_only_slot_waits_for_its_workers_restart(
    mortal: Executor, engine: Engine, tmp_path: Path
) -> None:
    """Whoever is next in line begins once that job has ended, not when its worker does."""
    order = replace(DRAW, steps=20, count=3)  # still at work when the first picture is there
    expected = here(engine, "draw", order, tmp_path / "own")
    executor = Executor(mortal._slots[:1])
    visit = Visit(executor, "a", Task("draw", order, tmp_path / "a"))
    visit.reach(at_work(visit))
    following = Visit(executor, "b", Task("load"))
    following.reach(lambda: bool(following.steps))
    visit.reach(lambda: bool(visit.results))
    os.kill(worker_of(executor, "a"), signal.SIGKILL)
    visit.ended()
    following.ended()
    assert any("begins anew" in step.text for step in visit.steps)
    news = zip(following.steps, following.times, strict=False)
    early = [step.text for step, when in news if when < visit.times[-1]]
    assert early and all(text.startswith("Waiting") for text in early)
    for got, own in zip(visit.results, expected, strict=True):
        assert got.path.read_bytes() == own.path.read_bytes()


@pytest.mark.slow(30)
def test_a_merge_outlives_its_worker(mortal: Executor, engine: Engine, tmp_path: Path) -> None:
    """Killed between two layers, it gives the same file as one that nothing has happened to."""
    order = replace(MERGE, method="iteris", samples=4)
    (own,) = here(engine, "merge", order, tmp_path / "own")
    visit = Visit(mortal, "a", Task("merge", order, tmp_path / "a"))
    visit.reach(lambda: any(step.solved for step in visit.steps))
    os.kill(worker_of(mortal, "a"), signal.SIGKILL)
    (merged,) = visit.ended().results
    assert merged.kohya.read_bytes() == own.kohya.read_bytes()
    assert merged.kohya.is_relative_to(tmp_path / "a")

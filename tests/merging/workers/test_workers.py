"""Work that is spread over workers: the same bytes, whatever happens to a worker."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from merging.diffusion.base import BaseChoice
from merging.errors import MergeError
from merging.evaluation.bundled_cases import shelf_cases
from merging.evaluation.cases import Case
from merging.evaluation.cells import Arena, cell_file
from merging.evaluation.contest import run
from merging.evaluation.spread import ArenaChoice, Spread
from merging.runtime.progress import silent
from merging.workers import Work, Workers, workers_of
from tests.conftest import ROOT, SHELF
from tests.merging.cli.commands import done
from tests.merging.workers.tasks import Reading, Refusing

pytestmark = pytest.mark.slow
CAT, PIZZA = SHELF["sks cat"], SHELF["vxz pizza"]
PHOTO = ROOT / "assets" / "examples" / "sks-cat+vxz-pizza-merged.png"


@pytest.fixture(scope="module", params=["local", "ray"])
def place(request: pytest.FixtureRequest) -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_worker_niceness", "0")  # Ray's 15 would wait for all else that runs
        if request.param == "ray":
            pytest.importorskip("ray", reason="requirements-ray.txt is not installed")
        yield str(request.param)


@pytest.fixture(scope="module")
def workers(place: str) -> Iterator[Workers]:
    """Two; those of Ray on a cluster that is there already, of one machine."""
    if place == "local":
        made = workers_of("local", 2)
        assert made
        yield made
        return
    from ray.cluster_utils import Cluster

    cluster = Cluster(True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    joined = workers_of("ray", 2, cluster.address)
    assert joined
    yield joined
    cluster.shutdown()


@pytest.fixture
def one_thread() -> Iterator[None]:
    """So that two workers do not wait for one another's threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def reading(tmp_path: Path) -> Reading:
    (tmp_path / "notes").mkdir()
    (tmp_path / "file.txt").write_text("said", "utf-8")
    return Reading(tmp_path / "file.txt", tmp_path / "notes")


def answers(workers: Workers, work: Work, count: int) -> list[object]:
    return [answer for _, answer in sorted(workers.answers(work, range(count)))]


def test_every_task_is_done_once_with_the_callers_threads_and_files(
    workers: Workers, reading: Reading, one_thread: None
) -> None:
    """Also the one whose worker ends."""
    assert answers(workers, replace(reading, deaths=1), 5) == [(n, 1, "said") for n in range(5)]


def test_a_task_that_kills_its_workers_is_given_up(workers: Workers, reading: Reading) -> None:
    with pytest.raises(MergeError, match="worker of task 2 ended 2 times"):
        answers(workers, replace(reading, deaths=9), 4)


def test_a_refusal_arrives_with_its_sentence(workers: Workers) -> None:
    with pytest.raises(MergeError) as refused:
        answers(workers, Refusing(), 1)
    assert str(refused.value) == "Task 0 has no LoRA; give it one."


@pytest.mark.slow(35)
def test_a_batch_has_the_same_bytes(
    place: str, one_thread: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Merges, recipes, pictures, matrix and summary; Ray starts a cluster of this machine alone."""
    ask = ("batch", CAT, PIZZA, "--methods", "iteris", "sum", "--samples", 1)
    ask += ("--targets", "cross-attention")
    ask += ("--matrix", "a sks cat", "--picture-steps", 1)
    done(capsys, *ask, "--out", tmp_path / "here.zip")
    done(capsys, *ask, "--executor", place, "--slots", 2, "--out", tmp_path / "spread.zip")
    assert (tmp_path / "spread.zip").read_bytes() == (tmp_path / "here.zip").read_bytes()


CHOICE, KEYS = ArenaChoice(BaseChoice("mini", "cpu"), steps=1), ("base", "each", "stack")


@pytest.fixture(scope="module")
def contest(tmp_path_factory: pytest.TempPathFactory) -> tuple[Arena, tuple[Case, ...]]:
    """A small one, computed here with one thread; references that are there are not drawn."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    arena = CHOICE.arena(tmp_path_factory.mktemp("here"))
    (case, *_) = shelf_cases("tuning", 1, ["house"])
    concepts = tuple(replace(concept, references=(PHOTO,)) for concept in case.concepts)
    cases = (replace(case, concepts=concepts),)
    run(arena, KEYS, cases, silent)
    torch.set_num_threads(before)
    return arena, cases


@pytest.mark.slow(35)
def test_a_contest_has_the_same_files_and_goes_on_where_it_stopped(
    workers: Workers, contest: tuple[Arena, tuple[Case, ...]], one_thread: None, tmp_path: Path
) -> None:
    """One cell of three is there already; each worker computes one of the others."""
    here, cases = contest
    there = replace(here, folder=tmp_path)
    run(there, KEYS[:1], cases, silent)
    kept = cell_file(there, KEYS[0], cases[0])
    untouched = kept.stat().st_mtime_ns
    run(there, KEYS, cases, silent, Spread(workers, CHOICE))
    assert contents(there.folder) == contents(here.folder)
    assert kept.stat().st_mtime_ns == untouched


class OfAnotherRelease:
    """A worker whose sources are others gives its cells other names."""

    def answers(self, _work: Work, numbers: Iterable[int]) -> Iterator[tuple[int, Any]]:
        yield from ((number, {"0123456789abcdef.json": b"{}"}) for number in numbers)


def test_a_worker_of_another_release_is_refused(
    contest: tuple[Arena, tuple[Case, ...]], tmp_path: Path
) -> None:
    there = replace(contest[0], folder=tmp_path)
    with pytest.raises(MergeError, match="another release"):
        run(there, KEYS, contest[1], silent, Spread(OfAnotherRelease(), CHOICE))
    assert not contents(tmp_path)


def contents(folder: Path) -> dict[str, bytes]:
    """All files but the costs: no two runs take the same time."""
    every = (path for path in folder.rglob("*") if path.is_file())
    files = (path for path in every if not path.name.endswith(".cost.json"))
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_wrong_options_are_refused_with_a_sentence() -> None:
    with pytest.raises(MergeError, match="at least one slot, not 0"):
        workers_of("local", 0)
    assert workers_of("local", 1) is None


def test_a_cluster_that_is_not_there(reading: Reading) -> None:
    pytest.importorskip("ray", reason="requirements-ray.txt is not installed")
    absent = workers_of("ray", 1, "127.0.0.1:1")
    assert absent
    with pytest.raises(MergeError, match=r"no Ray cluster at “127\.0\.0\.1:1”"):
        answers(absent, reading, 1)

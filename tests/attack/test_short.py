"""A short form of each attack; ``python -m tests.attack`` is the whole."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.attack import arguments, disks, files, homes, outputs, pages, strangers, visitors
from tests.attack.outcome import Outcome
from tests.attack.running import PAIR, Running, running

pytestmark = pytest.mark.slow
FORKS = pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
FEW = (float("nan"), "5", 1e308)


def check(outcome: Outcome) -> None:
    """Everything held, and something was tried."""
    assert outcome.tried
    assert outcome.failures == []


def test_mutated_files_are_read_or_refused(tmp_path: Path) -> None:
    check(files.attack(tmp_path, 40))


@FORKS
def test_two_apps_on_one_home_lose_nothing(tmp_path: Path) -> None:
    check(homes.rivals(tmp_path, 3))


@FORKS
def test_a_killed_app_leaves_nothing_half(tmp_path: Path) -> None:
    check(homes.kills(tmp_path, 2))


@pytest.mark.skipif(not disks.CAN_MOUNT, reason="only root may mount a small disk")
def test_disks_and_memory_that_run_out_are_said(tmp_path: Path) -> None:
    check(disks.attack(tmp_path))


def test_a_stopped_merge_leaves_the_base_as_it_was(tmp_path: Path) -> None:
    check(outputs.after_a_stop(tmp_path))


@pytest.fixture(scope="module")
def public(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("public"), **visitors.PUBLIC) as app:
        yield app


def test_hostile_arguments_have_a_sentence(public: Running) -> None:
    check(arguments.attack(public.url, public.upload(*PAIR), FEW))


def test_one_program_does_not_lock_a_visitor_out(public: Running) -> None:
    check(visitors.greedy(public))


def test_a_lost_connection_frees_the_worker(public: Running) -> None:
    check(visitors.leaving(public))


def test_strangers_reach_nothing(public: Running) -> None:
    check(strangers.files(public, public.log.parent))
    check(strangers.sessions(public))


@pytest.mark.browser
def test_no_script_of_a_file_runs(tmp_path: Path) -> None:
    with running(tmp_path) as app:
        check(pages.attack(app, tmp_path))


def test_an_app_at_work_ends_in_time(public: Running) -> None:
    """Last, for it ends the app."""
    check(strangers.ends(public))

"""A short form of some attacks; ``python -m tests.attack`` is the whole."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.attack import files, homes, leaving, names, served, strangers, visitors
from tests.attack.outcome import Outcome
from tests.attack.running import Running, running

pytestmark = pytest.mark.slow
FORKS = pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")


def check(outcome: Outcome) -> None:
    """Everything held, and something was tried."""
    assert outcome.tried
    assert outcome.failures == []


def test_mutated_files_are_read_or_refused(tmp_path: Path) -> None:
    check(files.attack(tmp_path, 25))


@FORKS
def test_two_apps_on_one_home_lose_nothing(tmp_path: Path) -> None:
    check(homes.rivals(tmp_path, 2))


@FORKS
def test_a_killed_app_leaves_nothing_half(tmp_path: Path) -> None:
    check(homes.kills(tmp_path, 2))


@FORKS
def test_a_killed_web_server_leaves_nothing_half(tmp_path: Path) -> None:
    check(served.kills(tmp_path, 2))


def test_hostile_names_stay_in_their_zip_and_run_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(names, "HOSTILE", names.HOSTILE[::9])
    check(names.attack(tmp_path))


@pytest.fixture(scope="module")
def public(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("public"), **visitors.PUBLIC) as app:
        yield app


def test_one_program_does_not_lock_a_visitor_out(public: Running) -> None:
    check(visitors.greedy(public))


def test_a_lost_connection_frees_the_worker(public: Running) -> None:
    check(leaving.lost(public))


def test_files_of_the_machine_are_no_uploads(public: Running) -> None:
    check(strangers.files(public, public.log.parent))


@pytest.mark.browser
def test_a_stolen_session_is_of_no_use(public: Running) -> None:
    check(strangers.sessions(public))

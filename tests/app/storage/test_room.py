"""How much room visitors have: their own limit, that of all, and the floor of the disk."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from app.settings.model import Settings
from app.storage.room import NoRoom, Room, room_of


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def room(tmp_path: Path, clock: Clock) -> Room:
    return Room(tmp_path, 100, 250, 0, keep_seconds=3600, clock=clock)


def test_a_client_has_its_share_and_no_more(room: Room) -> None:
    room.take("a", 60)
    room.take("a", 40)
    for more in (lambda: room.take("a", 1), lambda: room.check("a", 1)):
        with pytest.raises(NoRoom, match="limit of one visitor"):
            more()
    room.take("b", 100)


def test_all_together_have_theirs(room: Room) -> None:
    for client in ("a", "b"):
        room.take(client, 100)
    with pytest.raises(NoRoom, match="of all visitors"):
        room.take("c", 51)
    room.take("c", 50)


def test_bytes_count_as_long_as_files_are_kept(room: Room, clock: Clock) -> None:
    for clock.now in (0.0, 30.0, 1800.0):
        room.take("a", 30)
    clock.now = 3700.0
    room.take("a", 70)
    with pytest.raises(NoRoom):
        room.take("a", 1)


def test_part_of_the_disk_stays_free(tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free
    room = Room(tmp_path, 1 << 60, 1 << 60, free * 2, keep_seconds=1)
    with pytest.raises(NoRoom, match="stay free"):
        room.check("a")


def test_at_home_one_person_may_take_all(settings: Settings) -> None:
    limits = {"max_client_mb": 1, "max_work_mb": 3, "min_free_mb": 0}
    room_of(replace(settings, **limits)).check("a", 3 << 20)
    with pytest.raises(NoRoom):
        room_of(replace(settings, public=True, **limits)).check("a", 2 << 20)

"""How long a job will take is told from what earlier ones took."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.jobs.timing.pace import Measured, Pace, Stage, pace_key
from app.schemas.draw import ComparisonOrder, DrawOrder, Picture
from app.schemas.merge import MergeOrder, SelectedFile
from app.service import Studio
from app.ui.html.durations import rounded
from tests.app.visits import added

KEY, OTHER = ("mini", "auto", ""), ("mini", "auto", "160x128")


def test_the_newest_stages_of_every_kind_count() -> None:
    pace, ahead = Pace(), [Stage("drawing", 10), Stage("merging", 4)]
    assert pace.seconds(KEY, ahead) is None
    pace.note(Measured(KEY, [Stage("drawing", 5, 10.0)]))
    assert pace.seconds(KEY, ahead) == pytest.approx(2 * 14), "until a merge was measured"
    pace.note(Measured(KEY, [Stage("merging", 1, 3.0), Stage("merging", 3, 1.0)]))
    assert pace.seconds(KEY, ahead) == pytest.approx(2 * 10 + 1 * 4)
    pace.note(Measured(KEY, [Stage("drawing", 1, 1.0)]))
    assert pace.seconds(KEY, ahead) == pytest.approx(1 * 10 + 1 * 4)
    assert pace.seconds(OTHER, ahead) is None


def test_a_job_predicts_how_long_the_next_one_takes(
    studio: Studio, pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twice as many pictures take twice as long; a merge beside them takes longer."""
    monkeypatch.setattr(studio.executor, "pace", Pace())  # other tests share this studio
    session, cards = added(studio, pair)
    picks = tuple(map(SelectedFile.of, cards))
    order = DrawOrder(picks, "a sks cat", columns=("base", "each"), steps=2, size="160x128")
    assert studio.seconds(order) is None
    items = list(studio.draw(session, order))
    assert sum(isinstance(item, Picture) for item in items) == 3
    assert not any(isinstance(item, Measured) for item in items)
    seconds = studio.seconds(order)
    assert seconds is not None and seconds > 0
    more = DrawOrder(**{**vars(order), "steps": 4})
    assert studio.seconds(more) == pytest.approx(2 * seconds)
    merge = ComparisonOrder(MergeOrder(picks), order)
    assert pace_key(merge) == pace_key(order)
    longer = studio.seconds(merge)
    assert longer is not None and longer > seconds


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.2, "1 s"), (7.6, "8 s"), (12, "10 s"), (43, "45 s"), (89, "90 s"), (100, "2 min"),
        (5000, "83 min"), (9000, "2 h"),
    ],
)  # fmt: skip
def test_times_are_written_as_a_person_would(seconds: float, words: str) -> None:
    assert rounded(seconds) == words

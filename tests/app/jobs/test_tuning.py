"""A search for strengths as a job of the app."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from app.jobs.queue import Step
from app.schemas.merge import MergeOrder, SelectedFile
from app.schemas.tuning import JUDGES, TuneOrder, TuneResult
from app.service import Studio
from app.shell_commands import tune_command
from merging.cli.main import command_parser
from merging.errors import Cancelled, MergeError
from tests.app.visits import QUICK, added


def order_of(cards: list, **options: object) -> TuneOrder:
    picks = tuple(replace(SelectedFile.of(card), strength=0.8) for card in cards)
    merge = MergeOrder(picks, method="sum", **QUICK)  # type: ignore[arg-type]
    return TuneOrder(merge, budget=2, **options)  # type: ignore[arg-type]


@pytest.mark.slow
def test_a_search_finds_strengths_and_goes_on_where_it_was_stopped(
    studio: Studio, pair: tuple[Path, Path]
) -> None:
    session, cards = added(studio, pair)
    order = replace(order_of(cards), budget=12)  # two dozen merges: it cannot end before the stop

    items = studio.tune(session, order)
    for item in items:
        if isinstance(item, Step) and item.text.startswith("Merge "):
            studio.stop(session)
            break
    with pytest.raises(Cancelled):
        list(items)
    (kept,) = studio.store.folder(session).glob("tuning/*.json")
    assert kept.stem == order.key

    items = list(studio.tune(session, order))
    steps = [item for item in items if isinstance(item, Step)]
    shares = [step.share for step in steps]
    assert shares == sorted(shares), "progress never goes back"
    (found,) = (item for item in items if isinstance(item, TuneResult))
    assert found.trials == 2 * order.budget + 1
    assert [one.kind for one in found.best] == ["as given", "random", "tuned"]
    assert found.best[0].strengths == (0.8, 0.8)
    assert "held-out" in found.verdict
    assert Image.open(found.plot).width > 300
    anew = studio.tune(studio.open_session(), order)  # in another visit, which has no trials
    (other,) = (item for item in anew if isinstance(item, TuneResult))
    assert found == replace(other, plot=found.plot)

    words = shlex.split(tune_command(order))[3:]
    options = command_parser(words).parse_args(words)
    assert (options.judge, options.budget, options.method) == ("objective", 12, "sum")


def test_strengths_are_taken_over_with_those_of_parts(pair: tuple[Path, Path]) -> None:
    cat, pizza = (SelectedFile(path, path.stem) for path in pair)
    cat = replace(cat, strength=0.8, unet=0.4)
    order = TuneOrder(MergeOrder((cat, pizza)))
    result = TuneResult(order, (0.5, 1.25), "better", (), 5, Path("search.png"))
    assert result.helped
    moved = replace(cat, strength=1.9, unet=None, trigger="typed since")
    taken = result.taken_by(moved)
    assert (taken.strength, taken.unet, taken.text_encoder) == (0.4, 0.2, None)
    assert taken.trigger == "typed since"
    assert result.taken_by(pizza).strength == 1.25
    stranger = SelectedFile(Path("else"), "else")
    assert result.taken_by(stranger) == stranger
    assert not replace(result, factors=(1.0, 1.0)).helped


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"judge": "nobody"}, f"The judge must be {', '.join(JUDGES)}"),
        ({"budget": 0}, "1 to 24 merges here, not 0"),
        ({"budget": 25}, "1 to 24 merges here, not 25"),
        ({"merge": MergeOrder(())}, "at least two LoRA files"),
    ],
)
def test_a_search_that_cannot_be_made_is_refused(
    studio: Studio, pair: tuple[Path, Path], change: dict, sentence: str
) -> None:
    session, cards = added(studio, pair)
    with pytest.raises(MergeError, match=sentence):
        studio.tune(session, replace(order_of(cards), **change))


def test_a_search_refines_nothing(studio: Studio, pair: tuple[Path, Path]) -> None:
    session, cards = added(studio, pair)
    order = order_of(cards)
    with pytest.raises(MergeError, match="steps of refinement to 0"):
        studio.tune(session, replace(order, merge=replace(order.merge, refine=5)))

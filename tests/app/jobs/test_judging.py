"""Which concepts are in the pictures: told once all are drawn, and only what can be told."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from app.jobs.judging import is_judged, judging_stages
from app.schemas.draw import ComparisonOrder, DrawOrder, MissingVerdict, Picture
from app.schemas.merge import FinishedMerge, MergeOrder, SelectedFile
from app.service import Studio
from tests.app.visits import added

CAT, PIZZA = (SelectedFile(Path(name), name, trigger=name) for name in ("sks cat", "vxz pizza"))
ORDER = DrawOrder((CAT, PIZZA), "a sks cat and a vxz pizza\na SKS cat", judged=True)


@pytest.mark.parametrize(
    "change",
    [
        {"judged": False},
        {"picks": (CAT,)},
        {"prompt": "a house"},
        {"columns": ("base", "sum", "merged")},
        {"columns": ("base", "each", "merged")},
    ],
)
def test_it_is_left_out_where_nothing_can_be_judged(change: dict[str, object]) -> None:
    assert is_judged(ORDER) and judging_stages(ORDER)
    assert not judging_stages(replace(ORDER, **change))  # type: ignore[arg-type]


def test_a_prompt_asks_for_the_triggers_in_it() -> None:
    assert [ORDER.triggers_in(prompt) for prompt in (*ORDER.prompts, "a house")] == [
        ["sks cat", "vxz pizza"],
        ["sks cat"],
        [],
    ]
    girl = SelectedFile(Path("girl"), "girl", trigger="(sks cat girl:1.2)")
    nested = replace(ORDER, picks=(CAT, girl))
    assert nested.triggers_in("a sks (cat girl)") == ["sks cat girl"]
    assert nested.triggers_in("a sks cat girl and her sks cat") == ["sks cat", "sks cat girl"]


@pytest.mark.slow
def test_pictures_come_back_with_what_they_show(studio: Studio, pair: tuple[Path, Path]) -> None:
    """The history brings it back, too."""
    session, cards = added(studio, pair)
    picks = tuple(map(SelectedFile.of, cards))
    prompt = "a photo of a (sks cat:1.1) and a vxz pizza"
    scene = DrawOrder(picks, prompt, steps=4, size="64x64", judged=True)
    order = ComparisonOrder(MergeOrder(picks, method="tsv"), scene)
    items = list(studio.merge_and_draw(session, order))
    pictures = [item for item in items if isinstance(item, Picture)]
    judged = [it for it in pictures if it.found]
    assert [it.column for it in judged] == ["sum", "merged"] == [it.column for it in pictures[-2:]]
    assert {tuple(name for name, _ in it.found) for it in judged} == {("sks cat", "vxz pizza")}
    (merged,) = (item for item in items if isinstance(item, FinishedMerge))
    entry, _ = studio.remember(session, merged, order.drawn(merged), judged)
    assert entry is not None
    assert [it.found for it in studio.recall(session, entry).pictures] == [
        it.found for it in judged
    ]


@pytest.mark.slow
def test_why_there_is_no_verdict_is_one_sentence(studio: Studio, pair: tuple[Path, Path]) -> None:
    """A LoRA of no strength draws what the base draws."""
    session, cards = added(studio, pair)
    picks = tuple(replace(SelectedFile.of(card), strength=0.0) for card in cards)
    merge = MergeOrder(tuple(map(SelectedFile.of, cards)), method="sum")
    (merged,) = (it for it in studio.merge(session, merge) if isinstance(it, FinishedMerge))
    scene = DrawOrder(picks, "a sks cat", merged=merged.kohya, steps=1, judged=True)
    *pictures, last = studio.draw(session, scene)
    assert isinstance(last, MissingVerdict)
    assert last.why.startswith("sks-cat: its pictures of “sks cat” cannot be told")
    assert not any(item.found for item in pictures if isinstance(item, Picture))

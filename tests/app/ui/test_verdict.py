"""What is concluded from judged pictures, and when luck is not ruled out."""

from __future__ import annotations

from itertools import product
from math import comb
from pathlib import Path

import pytest

from app.schemas.draw import Picture
from app.ui.html.verdict import LUCK, TOO_FEW, Tally, conclusion, verdict_html

BOTH, CAT = ("sks cat", "vxz pizza"), ("sks cat",)


def picture(column: str, seed: int, names: tuple[str, ...], there: int) -> Picture:
    """A judged picture that shows the first ``there`` of what its prompt names."""
    found = tuple((name, place < there) for place, name in enumerate(names))
    return Picture(Path("p.png"), "", column=column, prompt=" ".join(names), seed=seed, found=found)


@pytest.mark.parametrize(
    ("pairs", "words"),
    [
        ([(False, True)], f"The merge does better here than loading the LoRAs together. {TOO_FEW}"),
        ([(False, True)] * 4, TOO_FEW),
        ([(False, True)] * 5, "The merge shows both more often than loading the LoRAs together."),
        ([(True, False)] * 5, "Loading the LoRAs together shows both more often than the merge."),
        ([(True, True)] * 4, "together shows both as often here: compare how it looks."),
        ([(True, True)], f"as often here: compare how it looks. {TOO_FEW}"),
        ([(False, False)] * 4, "Neither way shows both here"),
        ([(True, False), (False, True)], f"equally well here. {TOO_FEW}"),
    ],
)
def test_a_difference_is_one_where_luck_hardly_explains_it(
    pairs: list[tuple[bool, bool]], words: str
) -> None:
    assert words in conclusion(Tally(tuple(pairs)), "both")


def test_luck_is_the_share_of_all_ways_in_which_coins_may_fall() -> None:
    """By counting them, for every number of wins and losses; equal pairs say nothing."""
    for wins, losses in product(range(5), repeat=2):
        pairs = [(False, True)] * wins + [(True, False)] * losses + [(True, True)] * 3
        ways = list(product((0, 1), repeat=wins + losses))
        extreme = sum(sum(way) >= max(wins, losses) for way in ways)
        assert Tally(tuple(pairs)).luck == pytest.approx(extreme / len(ways))
    assert Tally(((False, True),) * 4).luck > LUCK >= 1 / 2**5 == comb(5, 5) / 2**5


def test_prompts_of_both_are_counted_apart_from_those_of_one() -> None:
    pictures = [
        *(picture("sum", seed, BOTH, 1) for seed in range(4)),
        *(picture("merged", seed, BOTH, 2) for seed in range(4)),
        *(picture(column, 0, CAT, 1) for column in ("sum", "merged")),
        picture("sum", 9, BOTH, 2),  # the merge's picture is not judged yet
        Picture(Path("b.png"), "", column="base"),
    ]
    html = verdict_html(pictures)
    assert "Both in the picture: loaded together 0 of 4, merged 4 of 4." in html
    assert "Prompts that name one: loaded together 1 of 1, merged 1 of 1." in html
    assert "The merge does better here than loading the LoRAs together." in html
    surer = verdict_html(
        [*pictures, *(picture("sum", 7, CAT, 0), picture("merged", 7, CAT, 1))],
    )
    assert "The merge shows what the prompts name more often" in surer
    assert verdict_html(pictures[:3]) == ""

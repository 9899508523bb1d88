"""Several merges at once on the page: what is typed, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.schemas.batch import BatchOrder, strengths_of, strengths_text
from app.schemas.card import Card
from app.schemas.merge import MergeOrder, SelectedFile
from app.service import Studio
from merging.errors import MergeError

CAT, MUG = (
    SelectedFile(Path("cat"), "sks: cat", 0.8),
    SelectedFile(Path("mug"), "mug", 0.9, 0.0, 0.5),
)


def test_a_line_for_each_lora() -> None:
    both = (CAT, MUG)
    assert strengths_text(both) == "sks: cat: 0.8\nmug: 0.9"
    assert strengths_of(strengths_text(both), both) == ((0.8,), (0.9,))
    assert strengths_of("\nmug: 0.5, -1,2 \n", both) == ((), (0.5, -1.0, 2.0))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("dog: 1", "“dog: 1” begins with no name"),
        ("0.5", "no name of a LoRA"),
        ("mug: a lot", "are numbers"),
    ],
)
def test_lines_that_say_nothing_are_refused(text: str, words: str) -> None:
    with pytest.raises(MergeError, match=words):
        strengths_of(text, (CAT, MUG))


def test_impossible_batches_are_refused(studio: Studio, pair: tuple[Path, Path]) -> None:
    session, cards = studio.open_session(), list[Card]()
    for file in pair:
        cards.append(studio.add(session, file, cards))
    order = MergeOrder(tuple(map(SelectedFile.of, cards)))
    many = tuple(float(place) for place in range(1, 14))
    for asked, words in (
        (BatchOrder(order, (), ((), ())), "at least one method"),
        (BatchOrder(order, ("iteris", "sum"), (many, ())), "26 merges; at most 24"),
        (BatchOrder(MergeOrder(order.picks[:1]), ("sum",), ((),)), "there is only one"),
    ):
        with pytest.raises(MergeError, match=words):
            studio.batch(session, asked)

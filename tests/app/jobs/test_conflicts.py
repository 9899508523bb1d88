"""Conflicts as the page asks for them: measured once, weighed at every change of a strength."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from app.jobs.conflicts import ConflictFinder
from app.jobs.inspect import card
from app.schemas.merge import SelectedFile
from app.ui.html.conflict_table import conflict_table as strip
from merging import formats
from merging.analysis.conflicts import conflicts
from merging.request import Source


@pytest.fixture
def cards(pair: tuple[Path, Path]) -> list:
    return [card(path, path.name) for path in pair]


def test_the_numbers_are_the_librarys(cards: list, pair: tuple[Path, Path]) -> None:
    cat, pizza = map(SelectedFile.of, cards)
    picks = (replace(cat, strength=0.5, text_encoder=0.2), replace(pizza, blocks="OUTALL"))
    meetings = ConflictFinder()
    (found,) = meetings.of(cards, picks).pairs
    sources = [
        pick.lora_input.source_of(formats.read(path))
        for pick, path in zip(picks, pair, strict=True)
    ]
    assert (found,) == conflicts(sources)
    (plain,) = meetings.of(cards, (cat, pizza)).pairs
    assert (plain,) == conflicts([Source(source.adapter) for source in sources])


def test_files_are_read_once(cards: list, tmp_path: Path) -> None:
    own = tmp_path / "cat.safetensors"
    own.write_bytes(cards[0].path.read_bytes())
    mine = [replace(cards[0], path=own), cards[1]]
    picks = tuple(map(SelectedFile.of, mine))
    meetings = ConflictFinder()
    first = meetings.of(mine, picks)
    own.unlink()
    assert meetings.of(mine, picks) == first


def test_those_switched_off_and_those_of_other_bases_are_left_out(
    cards: list, bad_files: dict[str, Path]
) -> None:
    cat, pizza = map(SelectedFile.of, cards)
    assert ConflictFinder().of(cards, (cat, replace(pizza, on=False))).pairs == ()
    stranger = card(bad_files["sd15"], "sd15.safetensors")
    mixed = [*cards, stranger]
    assert len(ConflictFinder().of(mixed, tuple(map(SelectedFile.of, mixed))).pairs) == 1


def test_a_file_that_needs_the_base_is_reported(cards: list) -> None:
    mine = [replace(cards[0], needs_base=True), cards[1]]
    found = ConflictFinder().of(mine, tuple(map(SelectedFile.of, mine)))
    assert found.pairs == ()
    assert "sks-cat is not compared" in found.notes[0]
    assert "sks-cat is not compared" in strip(found)


def test_the_strip_has_a_column_for_every_block_and_escapes_names(cards: list) -> None:
    mine = [replace(cards[0], name="<b>cat"), cards[1]]
    found = ConflictFinder().of(mine, tuple(map(SelectedFile.of, mine)))
    text = strip(found)
    assert text.count('<th scope="col">') == len(found.pairs[0].blocks)
    assert "<b>cat" not in text and "&lt;b&gt;cat" in text
    assert strip(ConflictFinder().of([], ())) == ""

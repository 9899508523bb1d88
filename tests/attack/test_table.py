"""The table of the attacks: each run puts its row in place of the last one."""

from __future__ import annotations

from pathlib import Path

from tests.attack.__main__ import MARKS, PAGE, name_of, put
from tests.attack.outcome import HEAD, Outcome
from tests.attack.rows import NAMES


def test_a_row_takes_the_place_of_its_last_one_and_others_stay(tmp_path: Path) -> None:
    page = tmp_path / "security.md"
    page.write_text(f"before\n{''.join(MARKS)}after\n", "utf-8")
    for name, tried in (("tools", 1), ("files", 2), ("tools", 3)):
        put(Outcome(f"the attack {name}", tried, name=name, size="full", day="today"), page)
    before, _, rest = page.read_text("utf-8").partition(MARKS[0])
    table, _, after = rest.partition(MARKS[1])
    assert (before, after) == ("before\n", "after\n")
    files, tools = table.removeprefix(HEAD).splitlines()
    assert (name_of(files), name_of(tools)) == ("files", "tools")
    assert "| the attack tools | 3 | all held | 0 s |  | full, today |" in tools


def test_every_row_of_the_page_is_one_of_the_attacks() -> None:
    table = PAGE.read_text("utf-8").partition(MARKS[0])[2].partition(MARKS[1])[0]
    names = [name_of(row) for row in table.removeprefix(HEAD).splitlines()]
    assert names and set(names) <= set(NAMES)

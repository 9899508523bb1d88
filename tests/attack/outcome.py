"""What an attack came to."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import TypeVar

Item = TypeVar("Item")
HEAD = (
    "| row | attack | tries | outcome | took | measured | counts, day |\n"
    "| --- | --- | --- | --- | --- | --- | --- |\n"
)


@dataclass
class Outcome:
    """One row of the table in docs/security.md."""

    attack: str
    tried: int = 0
    figures: str = ""  # what was measured
    failures: list[str] = field(default_factory=list)
    seconds: float = 0.0  # that the attack took
    name: str = ""  # on the command line
    size: str = ""  # of its counts: short, usual or full
    day: str = ""

    def expect(self, holds: bool, failure: str) -> None:
        """Count one try; note what failed."""
        self.tried += 1
        if not holds:
            self.failures.append(failure)

    @property
    def row(self) -> str:
        """The row, as Markdown."""
        found = f"{len(self.failures)} failed" if self.failures else "all held"
        cells = (
            f"`{self.name}`",
            self.attack,
            f"{self.tried:,}",
            found,
            f"{self.seconds:.0f} s",
            self.figures,
            f"{self.size}, {self.day}",
        )
        return f"| {' | '.join(cells)} |"


def today() -> str:
    """The day, UTC."""
    return datetime.now(timezone.utc).strftime("%Y-%m-%d")


def within(items: Iterable[Item], seconds: float) -> Iterator[Item]:
    """The items, as many as the time allows: the next one only before the time is up."""
    end = time.monotonic() + seconds
    for item in items:
        if time.monotonic() > end:
            return
        yield item

"""What an attack came to."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

Item = TypeVar("Item")


@dataclass
class Outcome:
    """One row of the table in docs/security.md."""

    attack: str
    tried: int = 0
    figures: str = ""  # what was measured
    failures: list[str] = field(default_factory=list)
    seconds: float = 0.0  # that the attack took

    def expect(self, holds: bool, failure: str) -> None:
        """Count one try; note what failed."""
        self.tried += 1
        if not holds:
            self.failures.append(failure)

    @property
    def row(self) -> str:
        """The row, as Markdown."""
        found = f"{len(self.failures)} failed" if self.failures else "all held"
        return (
            f"| {self.attack} | {self.tried:,} | {found} | {self.seconds:.0f} s | {self.figures} |"
        )


def within(items: Iterable[Item], seconds: float) -> Iterator[Item]:
    """The items, as many as the time allows: the next one only before the time is up."""
    end = time.monotonic() + seconds
    for item in items:
        if time.monotonic() > end:
            return
        yield item

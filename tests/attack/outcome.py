"""What an attack came to."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Outcome:
    """One row of the table in docs/security.md."""

    attack: str
    tried: int = 0
    figures: str = ""  # what was measured
    failures: list[str] = field(default_factory=list)

    def expect(self, holds: bool, failure: str) -> None:
        """Count one try; note what failed."""
        self.tried += 1
        if not holds:
            self.failures.append(failure)

    @property
    def row(self) -> str:
        """The row, as Markdown."""
        found = f"{len(self.failures)} failed" if self.failures else "all held"
        return f"| {self.attack} | {self.tried:,} | {found} | {self.figures} |"

"""How a merge is to be taken home, and what was made of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from app.schemas.draw import Picture
from app.schemas.merge import FinishedMerge

FORMS = {  # of files, and who loads each
    "kohya": "every program",
    "diffusers": "diffusers alone",
    "full": "all but diffusers; every change whole, large",
}


@dataclass(frozen=True)
class ExportOrder:
    """How the files are to be."""

    merged: FinishedMerge
    pictures: tuple[Picture, ...] = ()
    name: str = ""  # "" leaves the one that explains itself
    form: str = "kohya"
    dtype: str = "fp16"
    rank: str = "exact"  # as merged, or a number

    @property
    def source(self) -> Path:
        """The file of the merge that has the most of what is wanted."""
        full = self.merged.full if self.form == "full" else None
        return full or self.merged.kohya


@dataclass(frozen=True)
class Export:
    """What was made."""

    file: Path
    archive: Path
    folder: Path  # the archive's content, for the Hub
    sentence: str

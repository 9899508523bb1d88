"""The export of a merge: the visitor's order, and the files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from app.schemas.draw import Picture
from app.schemas.merge import FinishedMerge

FORMS = {  # format of a file → which programs load it
    "kohya": "every program",
    "diffusers": "diffusers alone",
    "full": "all but diffusers; every change whole, large",
    "shira": "peft alone, from the zip; changes of few entries",
}
WHOLE = ("full", "shira")  # that are written from the full file


@dataclass(frozen=True)
class ExportOrder:
    """A merge, and how its file is written."""

    merged: FinishedMerge
    pictures: tuple[Picture, ...] = ()
    name: str = ""  # "" for a name with method, triggers and settings
    form: str = "kohya"
    dtype: str = "fp16"
    rank: str = "exact"  # as merged, or a number

    @property
    def source(self) -> Path:
        """The merge's file to start from: the full one where that counts, if there is one."""
        full = self.merged.full if self.form in WHOLE else None
        return full or self.merged.kohya


@dataclass(frozen=True)
class Export:
    """The exported files."""

    file: Path
    archive: Path
    folder: Path  # the archive's content, for the Hub
    sentence: str  # the outcome of the file's checks

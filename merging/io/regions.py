"""Regions of a picture: where a trigger's concept is to be, as a box that the user draws."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from merging.errors import MergeError

FORM = '"TRIGGER=x0,y0,x1,y1"'
MAX_REGIONS = 32


@dataclass(frozen=True)
class Region:
    """A box, in shares of the picture's width and height from its upper left corner."""

    phrase: str  # the trigger
    box: tuple[float, float, float, float]  # left, top, right, bottom, from 0 to 1

    def __post_init__(self) -> None:
        """MergeError for a box without an area, or not within the picture."""
        left, top, right, bottom = self.box
        if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
            raise MergeError(
                f"The region of “{self.phrase}” is {', '.join(map(str, self.box))}: give left, "
                "top, right and bottom as shares of the picture from 0 to 1, such as 0,0,0.5,1."
            )

    def __str__(self) -> str:
        """As `parse_region` reads it."""
        return f"{self.phrase}={','.join(f'{edge:g}' for edge in self.box)}"


def parse_region(text: str) -> Region:
    """The region in TRIGGER=x0,y0,x1,y1; MergeError for other text."""
    phrase, _, numbers = text.rpartition("=")
    try:
        left, top, right, bottom = (float(number) for number in numbers.split(","))
    except ValueError as error:
        raise MergeError(f"{text!r} is no region: write {FORM}, such as cat=0,0,0.5,1.") from error
    if not phrase.strip():
        raise MergeError(f"{text!r} names no trigger: write {FORM}.")
    return Region(phrase.strip(), (left, top, right, bottom))


def cover(start: float, end: float, count: int) -> list[float]:
    """How much of each of ``count`` equal cells of [0, 1] lies within [start, end]."""
    edges = pairwise(i / count for i in range(count + 1))
    return [max(0.0, min(end, high) - max(start, low)) * count for low, high in edges]

"""Regions of a picture: where a trigger's concept is to be, as a box or as drawn by hand."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from merging.errors import MergeError

FORM = '"TRIGGER=x0,y0,x1,y1"'
MAX_REGIONS = 32
SHOWN = 80  # characters of a text that is refused
MASK_SIDE = 64  # most columns and rows of a mask: as many as SD 1.5's latents have

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Mask:
    """Equal cells over the picture, each drawn or not: what a brush leaves."""

    cells: tuple[tuple[bool, ...], ...]  # by row, from the top; columns from the left

    def __post_init__(self) -> None:
        """MergeError for a mask in which nothing is drawn, or of too many cells."""
        if not (0 < len(self.cells) <= MASK_SIDE and 0 < len(self.cells[0]) <= MASK_SIDE):
            raise MergeError(f"A drawn region has 1 to {MASK_SIDE} columns and rows.")
        if not any(map(any, self.cells)):
            raise MergeError("Nothing is drawn in a region: draw in it, or leave it out.")

    def __str__(self) -> str:
        """As `parse_mask` reads it: COLUMNSxROWS:HEX, cell by cell, the first bit first."""
        bits = "".join(str(int(cell)) for row in self.cells for cell in row)
        digits = -(-len(bits) // 4)
        number = int(bits.ljust(4 * digits, "0"), 2)
        return f"{len(self.cells[0])}x{len(self.cells)}:{number:0{digits}x}"

    @property
    def box(self) -> Box:
        """The smallest box around all that is drawn."""
        rows = [number for number, row in enumerate(self.cells) if any(row)]
        columns = [
            number for number, column in enumerate(zip(*self.cells, strict=True)) if any(column)
        ]
        wide, high = len(self.cells[0]), len(self.cells)
        return columns[0] / wide, rows[0] / high, (columns[-1] + 1) / wide, (rows[-1] + 1) / high


@dataclass(frozen=True)
class Region:
    """A box, in shares of the picture's width and height from its upper left corner.

    With a mask, only what is drawn within the box belongs to the region.
    """

    phrase: str  # the trigger
    box: Box  # left, top, right, bottom, from 0 to 1
    mask: Mask | None = None

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
        shape = str(self.mask) if self.mask else ",".join(f"{edge:g}" for edge in self.box)
        return f"{self.phrase}={shape}"


def parse_region(text: str) -> Region:
    """The region in TRIGGER=x0,y0,x1,y1 or TRIGGER=COLUMNSxROWS:HEX; MergeError for other text."""
    phrase, _, shape = text.rpartition("=")
    phrase = phrase.strip()
    try:
        region = drawn_region(phrase, parse_mask(shape)) if ":" in shape else _boxed(phrase, shape)
    except ValueError as error:
        shown = text if len(text) <= SHOWN else f"{text[:SHOWN]}…"
        raise MergeError(f"{shown!r} is no region: write {FORM}, such as cat=0,0,0.5,1.") from error
    if not phrase:
        raise MergeError(f"{text!r} names no trigger: write {FORM}.")
    return region


def parse_mask(text: str) -> Mask:
    """The mask that ``str(mask)`` wrote; ValueError for other text."""
    size, _, digits = text.partition(":")
    wide, high = (int(count) for count in size.split("x"))
    if not (
        0 < wide <= MASK_SIDE
        and 0 < high <= MASK_SIDE
        and 4 * len(digits) - wide * high in range(4)
    ):
        raise ValueError(text)
    bits = f"{int(digits, 16):0{4 * len(digits)}b}"
    rows = (bits[row * wide : (row + 1) * wide] for row in range(high))
    return Mask(tuple(tuple(bit == "1" for bit in row) for row in rows))


def drawn_region(phrase: str, mask: Mask) -> Region:
    """The region of a trigger that is drawn by hand."""
    return Region(phrase, mask.box, mask)


def _boxed(phrase: str, numbers: str) -> Region:
    left, top, right, bottom = (float(number) for number in numbers.split(","))
    return Region(phrase, (left, top, right, bottom))


def cover(start: float, end: float, count: int) -> list[float]:
    """How much of each of ``count`` equal cells of [0, 1] lies within [start, end]."""
    edges = pairwise(i / count for i in range(count + 1))
    return [max(0.0, min(end, high) - max(start, low)) * count for low, high in edges]

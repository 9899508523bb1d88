"""``--region``: a box, a drawn mask, or a picture that is white where a concept is to be."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from merging.io.files import PICTURE_ENDINGS
from merging.io.regions import MASK_SIDE, Mask, Region, drawn_region, parse_region

FORMS = "TRIGGER=x0,y0,x1,y1|TRIGGER=MASK.png"
HELP = (
    "for --compose regions: a box in shares of the picture, or a picture that is white where the "
    "concept is to be (default: none)"
)


def region_argument(text: str) -> Region:
    """The region; MergeError for another text, or a picture that cannot be read or is black."""
    phrase, _, name = text.rpartition("=")
    if Path(name).suffix.lower() not in PICTURE_ENDINGS:
        return parse_region(text)
    from merging.scoring.references import open_reference  # imports torch

    return drawn_region(phrase.strip(), mask_of(open_reference(Path(name))))


def mask_of(picture: Image.Image) -> Mask:
    """What is brighter than half, in as many cells as a mask may have."""
    small = picture.convert("L").resize((MASK_SIDE, MASK_SIDE), Image.Resampling.BOX)
    levels = small.tobytes()
    rows = (levels[start : start + MASK_SIDE] for start in range(0, len(levels), MASK_SIDE))
    return Mask(tuple(tuple(level > 127 for level in row) for row in rows))

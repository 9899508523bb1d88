"""Preview pictures of LoRAs as data URLs, which fit into a card and an index."""

from __future__ import annotations

import io
from base64 import b64decode, b64encode

from PIL import Image

SIDE = 96  # pixels: twice what the row shows
FORMATS = ("PNG", "JPEG", "WEBP")
MAX_PIXELS = 40_000_000  # of a picture


def thumbnail_of(image: Image.Image) -> str:
    """A small picture of an RGB image, as a data URL."""
    small, stream = image.copy(), io.BytesIO()
    small.thumbnail((SIDE, SIDE))
    small.save(stream, "PNG")
    return f"data:image/png;base64,{b64encode(stream.getvalue()).decode()}"


def picture_of(url: str) -> Image.Image | None:
    """The picture in a data URL, in RGB; None for "" and for what cannot be read."""
    try:
        data = b64decode(url.partition("base64,")[2], validate=True)
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            return image.convert("RGB") if image.width * image.height <= MAX_PIXELS else None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return None

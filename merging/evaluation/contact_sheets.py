"""Contact sheets: the same seeds in columns, contestants in rows, to compare by eye."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

SHEET_COLUMNS = 12
TILE = 96
GAP = 4
MARGIN = 190  # for the rows' names
INK, PAPER = (30, 30, 34), (250, 250, 248)


def strip(images: Sequence[Image.Image]) -> Image.Image:
    """The pictures side by side, TILE pixels wide."""
    row = Image.new("RGB", (len(images) * (TILE + GAP) - GAP, TILE), PAPER)
    for index, image in enumerate(images):
        tile = image.convert("RGB").resize((TILE, TILE), Image.Resampling.LANCZOS)
        row.paste(tile, (index * (TILE + GAP), 0))
    return row


def sheet(title: str, rows: Sequence[tuple[str, Image.Image]]) -> Image.Image:
    """Strips below each other, with their names on the left."""
    width = MARGIN + max(image.width for _, image in rows) + GAP
    picture = Image.new("RGB", (width, (len(rows) + 1) * (TILE + GAP) - TILE + 28), PAPER)
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(13)
    pen.text((GAP, 6), title, INK, font)
    for index, (name, image) in enumerate(rows):
        top = 28 + index * (TILE + GAP)
        pen.multiline_text((GAP, top + TILE // 2 - 14), _wrapped(name), INK, font)
        picture.paste(image, (MARGIN, top))
    return picture


def _wrapped(name: str, length: int = 26) -> str:
    """The name in lines of at most ``length`` letters."""
    lines = [""]
    for word in name.split():
        if len(lines[-1]) + len(word) >= length:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return "\n".join(lines)

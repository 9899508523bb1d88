"""The merges of a batch as a matrix of pictures, all of one prompt and one noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from merging import formats
from merging.adapter import Adapter
from merging.diffusion.base import Base
from merging.diffusion.render import render
from merging.io.files import RECIPE_KEY
from merging.options import Sampler
from merging.runtime.progress import Progress, Stop

SMALLEST, GAP, MARGIN, LINE = 128, 6, 190, 20  # pixels: a cell, between cells, labels, a line
LETTERS = 26  # of a row's label in one line
INK, PAPER, EMPTY = (30, 30, 34), (250, 250, 248), (225, 225, 228)

Settings = Mapping[str, str]  # what a merge of the batch was made with: axis → its label


@dataclass(frozen=True)
class PictureScene:
    """How every merge of a batch is drawn."""

    prompt: str
    seed: int = 0
    steps: int = 25
    guidance: float | None = None  # None: the base's best
    negative: str = ""
    sampler: Sampler = "DDIM"
    size: str = ""


def draw_merge(
    base: Base, file: Path, merged: Adapter, scene: PictureScene, progress: Progress, stop: Stop
) -> Image.Image:
    """The scene with a merge from its file, as a program that loads it would draw it."""
    adapter = replace(formats.read(file, base.table), embeddings=merged.embeddings)
    (image,) = render(
        base,
        [scene.prompt],
        [scene.seed],
        adapters=[(adapter, 1.0)],
        steps=scene.steps,
        guidance=scene.guidance,
        negative=scene.negative,
        sampler=scene.sampler,
        size=scene.size,
        progress=progress,
        stop=stop,
    )
    image.info["recipe"] = adapter.metadata.get(RECIPE_KEY, "")
    return image


def matrix(
    cells: Sequence[tuple[Settings, Image.Image | None]], scene: PictureScene
) -> Image.Image:
    """All pictures as one, with labelled axes; an empty cell where a merge failed.

    The first axis with several values goes across, all others go down.
    """
    names = axes([settings for settings, _ in cells])
    placed = {place(settings, names): image for settings, image in cells}
    across, down = (list(dict.fromkeys(where[axis] for where in placed)) for axis in (0, 1))
    width, height = _cell_size([image for image in placed.values() if image])
    top = 4 * LINE
    sheet = Image.new(
        "RGB",
        (MARGIN + len(across) * (width + GAP), top + len(down) * (height + GAP)),
        PAPER,
    )
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    pen.text((GAP, GAP), f"{scene.prompt} · seed {scene.seed}", INK, font)
    for column, label in enumerate(across):
        lines = in_lines(label, width // 8)
        pen.multiline_text((MARGIN + column * (width + GAP), 2 * LINE - GAP), lines, INK, font)
    for row, label in enumerate(down):
        pen.multiline_text((GAP, top + row * (height + GAP)), in_lines(label, LETTERS), INK, font)
    for (column_label, row_label), image in placed.items():
        corner = (
            MARGIN + across.index(column_label) * (width + GAP),
            top + down.index(row_label) * (height + GAP),
        )
        cell = image.convert("RGB") if image else Image.new("RGB", (1, 1), EMPTY)
        sheet.paste(cell.resize((width, height), Image.Resampling.LANCZOS), corner)
    return sheet


def axes(merges: Sequence[Settings]) -> list[str]:
    """The settings that have several values, in their order; the first one if none has."""
    names = [*merges[0]]
    several = [name for name in names if len({settings[name] for settings in merges}) > 1]
    return several or names[:1]


def place(settings: Settings, names: Sequence[str]) -> tuple[str, str]:
    """The labels of a merge's column and row."""
    first, *others = names
    return settings[first], " · ".join(settings[name] for name in others)


def _cell_size(images: Sequence[Image.Image]) -> tuple[int, int]:
    """The pictures' own size, enlarged where they are tiny."""
    width, height = images[0].size if images else (SMALLEST, SMALLEST)
    factor = max(1.0, SMALLEST / min(width, height))
    return round(width * factor), round(height * factor)


def in_lines(label: str, letters: int) -> str:
    """A label in lines of at most so many letters, unless a word is longer."""
    lines = [""]
    for word in label.split():
        if len(lines[-1]) + len(word) >= letters:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return "\n".join(lines)

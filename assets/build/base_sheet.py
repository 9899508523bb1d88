"""Draw two bases side by side, by the same prompts and seeds: `python -m assets.build.base_sheet`.

`git worktree add ../before db7721c` has the first base, of 64 pixels, in its `assets/mini-sd`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from merging.diffusion.base import Base, load_base
from merging.diffusion.render import render
from merging.io.assets import ASSETS

PROMPTS = (
    "a photo of a cat on a green background",
    "a photo of a car and a tree on a yellow background",
    "a photo of an owl in the snow",
    "a photo of a house and a fox on the grass",
    "a photo of a rocket at night under the stars",
    "a photo of a cake on a wooden table",
    "a photo of a panda, a moon and a gift",
)
SEEDS = (0, 1, 2)
SIDE, LABEL = 128, 22  # pixels of a picture, and of the line above a row


def main() -> None:
    """Write the sheet: a row for each prompt, the first base's pictures on the left."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("before", type=Path, help="folder of the base that is shown on the left")
    parser.add_argument("--out", type=Path, default=ASSETS / "readme" / "bases.png")
    given = parser.parse_args()
    bases = [load_base(str(folder), "cpu") for folder in (given.before, ASSETS / "mini-sd")]
    high, font = SIDE + LABEL, ImageFont.load_default(13)
    sheet = Image.new("RGB", (SIDE * len(SEEDS) * len(bases), high * len(PROMPTS)), "white")
    for row, prompt in enumerate(PROMPTS):
        ImageDraw.Draw(sheet).text((4, row * high + 4), prompt, "black", font)
        drawn = [image for base in bases for image in pictures(base, prompt)]
        for column, image in enumerate(drawn):
            large = image.resize((SIDE, SIDE), Image.Resampling.LANCZOS)
            sheet.paste(large, (column * SIDE, row * high + LABEL))
    sheet.save(given.out, optimize=True)


def pictures(base: Base, prompt: str) -> list[Image.Image]:
    """One picture a seed."""
    return render(base, [prompt] * len(SEEDS), SEEDS, guidance=3.0)


if __name__ == "__main__":
    main()

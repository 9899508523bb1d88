"""Where each concept went: the attention to its words, laid over the picture."""

from __future__ import annotations

import torch
from PIL import Image, ImageOps
from torch import Tensor

# From what is looked at least to what is looked at most; lighter throughout, so that it also reads
# in grey and for eyes that see few colours.
LEAST, BETWEEN, MOST = "#0b0724", "#b8377a", "#ffe9a0"
# Times the mean: where the glow begins, and where it is strongest. The same in every picture, so
# that words that were looked at everywhere alike glow nowhere.
DARK, FULL = 0.7, 2.0
PICTURE = 0.35  # share of the picture itself, in grey, that shines through


def heat_map(image: Image.Image, looks: Tensor) -> Image.Image:
    """The picture in grey under a glow, strongest where the words are looked at most.

    ``looks`` (height, width) is relative to its mean, as `render` puts it into
    ``image.info["maps"][phrase]``; words that the prompt does not say leave the picture all dark.
    """
    strength = ((looks - DARK) / (FULL - DARK)).clamp(0, 1)
    levels = Image.fromarray((255 * strength).to(torch.uint8).numpy(), mode="L")
    glow = ImageOps.colorize(levels, LEAST, MOST, BETWEEN).resize(
        image.size, Image.Resampling.BICUBIC
    )
    return Image.blend(glow, image.convert("L").convert("RGB"), PICTURE)

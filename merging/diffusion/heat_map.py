"""Heat maps: the attention to a phrase, shown over the picture."""

from __future__ import annotations

import torch
from PIL import Image, ImageOps
from torch import Tensor

# Colours from low to high attention; lightness rises, so that they also work in grey and for
# colour-blind readers.
LOW, MIDDLE, HIGH = "#0b0724", "#b8377a", "#ffe9a0"
# Attention, relative to its mean, where the scale begins and ends. The same for all pictures, so
# that a phrase with even attention shows no spot.
START, END = 0.7, 2.0
PICTURE_SHARE = 0.35  # opacity of the picture, in grey


def heat_map(image: Image.Image, attention: Tensor) -> Image.Image:
    """The picture in grey under a colour map of the attention.

    ``attention`` (height, width) is relative to its mean, as in ``image.info["maps"][phrase]`` of
    `render`; a phrase that the prompt lacks gives a dark picture.
    """
    strength = ((attention - START) / (END - START)).clamp(0, 1)
    levels = Image.fromarray((255 * strength).to(torch.uint8).numpy(), mode="L")
    colours = ImageOps.colorize(levels, LOW, HIGH, MIDDLE).resize(
        image.size, Image.Resampling.BICUBIC
    )
    return Image.blend(colours, image.convert("L").convert("RGB"), PICTURE_SHARE)

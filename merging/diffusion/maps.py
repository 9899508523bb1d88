"""Where each concept went: the attention to its words, laid over the picture."""

from __future__ import annotations

import torch
from PIL import Image
from torch import Tensor

COLD, WARM = (24, 20, 60), (255, 196, 70)


def heat_map(image: Image.Image, looks: Tensor) -> Image.Image:
    """The picture, dark where the words are looked at least, and glowing where most.

    ``looks`` (height, width) is relative to its mean, as `render` puts it into
    ``image.info["maps"][phrase]``; words that the prompt does not say leave the picture all dark.
    """
    span = (looks.max() - looks.min()).clamp_min(1e-6)
    strength = ((looks - looks.min()) / span if looks.any() else looks).clamp(0, 1)
    levels = Image.fromarray((255 * strength).to(torch.uint8).numpy(), mode="L")
    mask = levels.resize(image.size, Image.Resampling.BICUBIC)
    dark = Image.blend(image.convert("RGB"), Image.new("RGB", image.size, COLD), 0.7)
    lit = Image.blend(image.convert("RGB"), Image.new("RGB", image.size, WARM), 0.35)
    return Image.composite(lit, dark, mask)

"""What LoRA-Composer does to the latents so that things come to be in their boxes.

See merging/diffusion/compose/lora_composer.py. Maps are of attention, (concepts, height, width).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from merging.diffusion.compose.clora import in_range

Cells = tuple[int, int, int, int]  # left, top, right, bottom: positions of the latent

INSIDE, FILL = 8.0, 2.0  # weights of the losses
BEST = 0.2  # of a box's positions that have to get attention


def cells(box: Sequence[float], size: tuple[int, int]) -> Cells:
    """A box in shares as whole positions, at least one."""
    height, width = size
    left, top = min(round(box[0] * width), width - 1), min(round(box[1] * height), height - 1)
    return left, top, max(round(box[2] * width), left + 1), max(round(box[3] * height), top + 1)


def layout_loss(maps: Tensor, boxes: Sequence[Cells]) -> Tensor:
    """The sum over concepts of 8 · max(0, 1 − a) + 2 · f.

    a is the mean of the best 20 % of the attention in the box, under a Gaussian about its middle; f
    the mean difference of the largest attention in each row and column from the box's own: 1 or 0.
    """
    ranged = in_range(maps)
    return torch.stack([_loss(one, box) for one, box in zip(ranged, boxes, strict=True)]).sum()


def _loss(attention: Tensor, box: Cells) -> Tensor:
    left, top, right, bottom = box
    inside = attention[top:bottom, left:right]
    weighed = (inside * _bell(*inside.shape).to(inside)).flatten()
    best = weighed.topk(max(1, round(BEST * weighed.numel()))).values.mean()
    filled = torch.zeros_like(attention)
    filled[top:bottom, left:right] = 1
    sides = [(attention.amax(dim=i) - filled.amax(dim=i)).abs().mean() for i in (0, 1)]
    return INSIDE * (1 - best).clamp_min(0) + FILL * (sides[0] + sides[1])


def _bell(height: int, width: int) -> Tensor:
    """A Gaussian, 1 in the middle, with half of each side as its deviation."""
    rows, columns = (torch.linspace(-1, 1, n) if n > 1 else torch.zeros(1) for n in (height, width))
    return torch.exp(-(rows[:, None] ** 2 + columns**2) / 2)


def moved_noise(latents: Tensor, maps: Tensor, boxes: Sequence[Cells]) -> Tensor:
    """Latents (1, channels, height, width) with the most attended windows copied into the boxes.

    Mean and deviation of each channel stay what they were.
    """
    moved = latents.clone()
    for attention, (left, top, right, bottom) in zip(maps, boxes, strict=True):
        size = (bottom - top, right - left)
        sums = F.avg_pool2d(attention[None, None].float(), size, stride=1)[0, 0]
        y, x = divmod(int(sums.argmax()), sums.shape[1])
        moved[..., top:bottom, left:right] = latents[..., y : y + size[0], x : x + size[1]]
    mean, deviation = (getattr(moved, kind)((2, 3), keepdim=True) for kind in ("mean", "std"))
    old_mean, old_deviation = (getattr(latents, k)((2, 3), keepdim=True) for k in ("mean", "std"))
    return (moved - mean) / deviation.clamp_min(1e-6) * old_deviation + old_mean

"""Pictures as a scorer may meet them: blurred, noisy, of another brightness, pulled about."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

WARP = 0.1  # of half the picture's width, one deviation


def disturbed(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """uint8 to [0, 1], half of them blurred, all of them with noise and another brightness."""
    shape = (len(pixels), 1, 1, 1)
    drawn = {"generator": generator, "device": pixels.device}
    clean = pixels.float() / 255
    soft = functional.avg_pool2d(clean, 3, 1, 1, count_include_pad=False)
    share = torch.rand(shape, **drawn) * (torch.rand(shape, **drawn) < 0.5)
    noise = torch.randn(clean.shape, **drawn)
    strength = 0.06 * torch.rand(shape, **drawn)
    bright = 1 + 0.1 * torch.randn(shape, **drawn)
    return ((clean + share * (soft - clean)) * bright + strength * noise).clamp(0, 1)


def warped(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Pictures (n, 3, height, width) pulled about smoothly, by a few pixels, as LoRAs draw."""
    drawn = {"generator": generator, "device": pixels.device}
    pull = WARP * torch.randn(len(pixels), 2, 5, 5, **drawn)
    pull = pull * torch.rand(len(pixels), 1, 1, 1, **drawn)
    field = functional.interpolate(pull, pixels.shape[-2:], mode="bicubic", align_corners=True)
    still = functional.affine_grid(
        torch.eye(2, 3, device=pixels.device).expand(len(pixels), 2, 3), list(pixels.shape), False
    )
    moved = still + field.permute(0, 2, 3, 1)
    return functional.grid_sample(pixels, moved, padding_mode="border", align_corners=False)

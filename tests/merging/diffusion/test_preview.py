"""Pictures under way: what the sampler seems to come to, without the decoder."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from merging.diffusion.base import Base
from merging.diffusion.preview import Previewer, clean_estimate, fit_previewer
from merging.diffusion.render import batches_of, render
from merging.options import Sampler


@pytest.fixture(scope="module")
def previewer(base: Base) -> Previewer:
    return fit_previewer(base)


def test_the_estimate_is_that_of_ddim(base: Base) -> None:
    scheduler = base.pipeline.scheduler
    scheduler.set_timesteps(10)
    generator = torch.Generator().manual_seed(1)
    latents, noise = torch.randn(2, 1, 4, 8, 8, generator=generator)
    for time in scheduler.timesteps:
        expected = scheduler.step(noise, time, latents).pred_original_sample
        assert torch.allclose(clean_estimate(scheduler, latents, noise, time), expected, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("sampler", get_args(Sampler))
def test_the_last_preview_is_like_the_picture(
    base: Base, previewer: Previewer, sampler: Sampler
) -> None:
    """More than the first one, for every sampler."""
    told: list[tuple[Tensor, int]] = []
    prompts = ["a photo of a cat on a green background", "a dog in the snow"]
    pictures = render(
        base, prompts, [1, 2], steps=8, sampler=sampler,
        on_estimate=lambda latents, first: told.append((latents, first)),
    )  # fmt: skip
    plain = render(base, prompts, [1, 2], steps=8, sampler=sampler)
    assert [one.tobytes() for one in plain] == [one.tobytes() for one in pictures]
    assert [first for _, first in told] == [0] * 8
    early, late = (
        [
            likeness(preview, picture)
            for preview, picture in zip(previewer.pictures(told[step][0]), pictures, strict=True)
        ]
        for step in (0, -1)
    )
    assert min(late) > 0.7
    assert sum(late) > sum(early)


@pytest.mark.parametrize("count", [1, 2, 5, 9])
def test_every_picture_is_in_one_batch(count: int) -> None:
    for first_alone in (False, True):
        found = batches_of(count, 4, first_alone)
        assert [place for places in found for place in places] == [*range(count)]
        assert all(0 < len(places) <= 4 for places in found)
        assert len(found[0]) == 1 or not first_alone


def likeness(preview: Image.Image, picture: Image.Image) -> float:
    """Correlation of a preview with its picture in the preview's size."""
    small = picture.convert("RGB").resize(preview.size, Image.Resampling.BOX)
    values = [np.asarray(image, dtype=float).ravel() for image in (preview, small)]
    return float(np.corrcoef(*values)[0, 1])

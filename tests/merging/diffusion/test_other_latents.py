"""A base with SD's own latents: four channels, by an AutoencoderKL, at 64 pixels."""

from __future__ import annotations

import pytest
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline
from torch import nn

from merging import formats
from merging.base_models import base_model
from merging.diffusion.base import Base, load_base
from merging.diffusion.calibrate import activations
from merging.diffusion.render import render
from merging.engine import merge
from merging.request import MergeRequest, Source
from tests.conftest import SHELF, SINGLE

CHANNELS = 4


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Base:
    """The embedded base with untrained convolutions for the latents of an untrained autoencoder."""
    torch.manual_seed(0)
    pipeline = StableDiffusionPipeline.from_pretrained(base_model("mini").source)
    unet = pipeline.unet
    width = unet.config.block_out_channels[0]
    unet.conv_in = nn.Conv2d(CHANNELS, width, 3, padding=1)
    unet.conv_out = nn.Conv2d(width, CHANNELS, 3, padding=1)
    unet.register_to_config(in_channels=CHANNELS, out_channels=CHANNELS)
    levels = ("DownEncoderBlock2D",) * 3, ("UpDecoderBlock2D",) * 3
    vae = AutoencoderKL(3, 3, *levels, (32, 32, 32), latent_channels=CHANNELS)
    pipeline.register_modules(vae=vae)
    folder = tmp_path_factory.mktemp("base") / "narrow"
    pipeline.save_pretrained(folder)
    return load_base(str(folder), "cpu")


def test_it_draws_at_its_own_size(narrow: Base) -> None:
    (picture,) = render(narrow, ["a photo of a cat"], [0], steps=2)
    assert picture.size == (64, 64)


@pytest.mark.slow
@pytest.mark.parametrize("compose", ["sum", "gated"])
def test_loras_change_its_pictures(narrow: Base, compose: str) -> None:
    loras = [(formats.read(SHELF[trigger]), 1.0) for trigger in ("sks cat", "vxz pizza")]
    prompt = "a photo of a sks cat and a vxz pizza"
    (plain,) = render(narrow, [prompt], [0], steps=2)
    (changed,) = render(narrow, [prompt], [0], steps=2, adapters=loras, compose=compose)
    assert changed.size == plain.size and changed.tobytes() != plain.tobytes()


@pytest.mark.slow
def test_it_merges(narrow: Base) -> None:
    loras = [formats.read(SHELF[trigger]) for trigger in ("sks cat", "vxz pizza")]
    request = MergeRequest(tuple(map(Source, loras)), **{**SINGLE, "samples": 1})
    result = merge(request, activations(narrow))
    assert set(result.adapter.layers) == set(loras[0].layers) | set(loras[1].layers)
    assert all(layer.up.isfinite().all() for layer in result.adapter.layers.values())

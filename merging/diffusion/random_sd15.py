"""The architecture of Stable Diffusion 1.5 with random weights.

A merge costs as much as on the real model; pictures are noise. For speed benchmarks and tests
without the real weights.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from merging.adapter import Adapter, LoraLayer
from merging.base_models import MINI, SD15
from merging.diffusion.base import Base, pick_device
from merging.diffusion.loading.sd15_config import (
    SD15_SCHEDULE,
    SD15_TEXT_ENCODER,
    SD15_UNET,
    SD15_VAE,
)


def random_sd15(side: int = 64, seed: int = 0, device: str = "auto") -> Base:
    """SD 1.5's text encoder, UNet and autoencoder with random weights, for ``side``² latents.

    The tokenizer is the embedded base's, at SD's length of 77.
    """
    where = pick_device(device)
    dtype = torch.float32 if where.type == "cpu" else torch.float16
    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config({**SD15_UNET, "sample_size": side})
        text_encoder = CLIPTextModel(CLIPTextConfig(**SD15_TEXT_ENCODER))
        vae = AutoencoderKL.from_config(SD15_VAE)
    generator = torch.Generator().manual_seed(seed)
    for model in (unet, text_encoder, vae):
        _fill(model.to_empty(device="cpu").eval(), generator)
    pipeline = StableDiffusionPipeline(
        unet=unet,
        text_encoder=text_encoder,
        vae=vae,
        tokenizer=CLIPTokenizer.from_pretrained(f"{MINI.source}/tokenizer", model_max_length=77),
        scheduler=DDIMScheduler(**SD15_SCHEDULE),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    return Base(SD15.name, pipeline.to(where, dtype), where, dtype)


def _fill(model: nn.Module, generator: torch.Generator) -> None:
    """Random weights that keep the size of activations; normalisations of weight 1 and bias 0."""
    for parameter in model.parameters():
        if parameter.ndim == 1:
            nn.init.zeros_(parameter)
        else:
            size = parameter[0].numel() ** -0.5
            nn.init.normal_(parameter, std=size, generator=generator)
    for module in model.modules():
        if isinstance(module, nn.LayerNorm | nn.GroupNorm):
            nn.init.ones_(module.weight)
    for name, buffer in model.named_buffers():
        if name.endswith("position_ids"):
            buffer.copy_(torch.arange(buffer.shape[-1])[None])


def random_adapter(
    base: Base, marks: Sequence[str], rank: int, seed: int, size: float = 0.1
) -> Adapter:
    """A LoRA of the whole text encoder, and of every layer with one of ``marks`` in its name.

    ‖Δ‖ = size · ‖W0‖ in every layer; alpha is not the rank.
    """
    generator = torch.Generator().manual_seed(seed)
    layers = {
        name: _random_layer(layer.weight, rank, size, generator)
        for name, layer in base.layers.items()
        if name.startswith("text_encoder.") or any(mark in name for mark in marks)
    }
    name = f"random-{seed}"
    return Adapter(name, layers, base=base.name, trigger=f"rn{seed} thing", sha256=name)


def _random_layer(weight: Tensor, rank: int, size: float, generator: torch.Generator) -> LoraLayer:
    out, width = weight.flatten(1).shape
    up = torch.randn(out, rank, generator=generator)
    down = torch.randn(rank, width, generator=generator)
    # E‖up · down‖² = rank · out · in
    length = (rank * out * width) ** 0.5
    scale = size * weight.detach().float().norm().item() / length
    return LoraLayer(up * scale * 2, down, alpha=rank / 2)
